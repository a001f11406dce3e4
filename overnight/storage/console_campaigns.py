"""What the web console reads of campaigns. Whatever their size, it is added up from what each batch has added up
already: no query here looks at an entry.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, Select, and_, cast, func, or_, select, true

from overnight.batches import BatchFilter, BatchStatus, Cost, Outcome
from overnight.errors import UnknownCampaignError
from overnight.storage.batches import usage_of
from overnight.storage.campaigns import campaign_with
from overnight.storage.console_reading import (
    LISTED_BATCH,
    Reader,
    chosen,
    handler_of,
    listed_batch,
    newest_first,
    page_of,
    shown_columns,
)
from overnight.storage.console_values import (
    BatchChoice,
    Edge,
    ListedBatch,
    ListedCampaign,
    Names,
    Page,
    Place,
    ShownCampaign,
    Tally,
)
from overnight.storage.listings import conditions, left, unfinished
from overnight.storage.tables import batches, campaigns

_TROUBLED = (batches.c.campaign_id.is_not(None), *conditions(BatchFilter(needs_attention=True)))
_IS_LEFT = and_(unfinished(campaigns), left(campaigns))
_NEEDS_ATTENTION = or_(
    and_(unfinished(campaigns), campaigns.c.trouble_code.is_not(None)),
    _IS_LEFT,
    campaigns.c.id.in_(select(batches.c.campaign_id).where(*_TROUBLED)),
)
_LISTED = (
    campaigns.c.id,
    campaigns.c.provider,
    campaigns.c.model,
    handler_of(campaigns).label("handler"),
    campaigns.c.status,
    campaigns.c.entry_count,
    campaigns.c.rounds,
    campaigns.c.round,
    campaigns.c.max_cost,
    campaigns.c.created_at,
    campaigns.c.sealed_at,
    campaigns.c.ended_at,
    campaigns.c.trouble_code,
    _IS_LEFT.label("is_left"),
)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def _tally_columns() -> list[ColumnElement[Any]]:
    """Sums over batches, whichever of them a query groups."""
    known = batches.c
    is_read = known.ingested_at.is_not(None)
    columns: dict[str, ColumnElement[Any]] = {
        "entries": _sum(known.entry_count),
        "answered": cast(func.coalesce(func.sum(known.progress_done).filter(~is_read), 0), BigInteger),
        "read": func.count().filter(is_read),
        "priced": func.count(known.cost).filter(is_read),
        "listed": func.count(known.list_cost).filter(is_read),
        "billed": func.sum(known.cost).filter(is_read),
        "list_price": func.sum(known.list_cost).filter(is_read),
    }
    columns |= {f"status_{status}": func.count().filter(known.status == status.value) for status in BatchStatus}
    columns |= {column.name: _sum(column) for column in known if column.name.endswith("_tokens")}
    for counts in (known.outcomes, known.retried):
        columns |= {f"{counts.name}_{outcome}": _sum(counts[outcome.value].as_integer()) for outcome in Outcome}
    return [column.label(name) for name, column in columns.items()]


def _tally(row: Row[Any]) -> Tally:
    # As everywhere: unknown as soon as one price is, never a lower sum on a guess.
    is_priced = row.read and row.read == row.priced == row.listed
    return Tally(
        batches=_counts(row, "status", BatchStatus),
        entries=row.entries,
        answered=row.answered,
        outcomes=_counts(row, "outcomes", Outcome),
        retried=_counts(row, "retried", Outcome),
        usage=usage_of(row),
        cost=Cost(billed=row.billed, list_price=row.list_price) if is_priced else Cost(billed=None, list_price=None),
        read=row.read,
    )


def _counts(row: Row[Any], prefix: str, words: Any) -> Mapping[Any, int]:
    counts = {word: getattr(row, f"{prefix}_{word}") for word in words}
    return {word: count for word, count in counts.items() if count}


def _wanted(choice: BatchChoice) -> list[ColumnElement[bool]]:
    only = [(choice.open, unfinished(campaigns)), (choice.troubled, _NEEDS_ATTENTION)]
    return [*chosen(campaigns, choice), *(condition for is_wanted, condition in only if is_wanted)]


def _campaign_page(choice: BatchChoice, edge: Edge | None, size: int) -> Select[Any]:
    """The page's campaigns first; then, for each of them, the batches that are its own."""
    page = newest_first(select(*_LISTED).where(*_wanted(choice)), campaigns, edge, size).subquery("page")
    sums = select(*_tally_columns()).where(batches.c.campaign_id == page.c.id).lateral("sums")
    number = func.count().label("troubled")
    troubled = select(batches.c.campaign_id, number).where(*_TROUBLED).group_by(batches.c.campaign_id).subquery()
    order = (page.c.created_at, page.c.id)
    backwards = bool(edge and edge.backwards)
    return (
        select(page, sums, func.coalesce(troubled.c.troubled, 0).label("troubled"))
        .select_from(page.join(sums, true()).outerjoin(troubled, troubled.c.campaign_id == page.c.id))
        .order_by(*(column if backwards else column.desc() for column in order))
    )


def _listed_campaign(row: Row[Any]) -> ListedCampaign:
    names = ListedCampaign.__dataclass_fields__.keys() - {"status", "tally"}
    known = {name: getattr(row, name) for name in names}
    return ListedCampaign(**known, status=BatchStatus(row.status), tally=_tally(row))


def _part_page(campaign_id: UUID, choice: BatchChoice, number: int | None, place: Place, size: int) -> Select[Any]:
    attention = conditions(BatchFilter(unfinished=choice.open, needs_attention=choice.troubled))
    order = batches.c.number.desc() if place.backwards else batches.c.number
    beyond = batches.c.number < place.position if place.backwards else batches.c.number > place.position
    query = select(*LISTED_BATCH).where(batches.c.campaign_id == campaign_id, beyond)
    if number is not None:
        query = query.where(batches.c.round == number)
    return query.where(*chosen(batches, choice), *attention).order_by(order).limit(size + 1)


class CampaignReader(Reader):
    """Reads of campaigns, for people."""

    async def page(self, choice: BatchChoice, *, edge: Edge | None, size: int) -> Page[ListedCampaign]:
        """Campaigns, the newest first."""
        rows = [_listed_campaign(row) for row in await self._rows(_campaign_page(choice, edge, size))]
        return page_of(rows, size, backwards=bool(edge and edge.backwards), from_start=edge is None)

    async def names(self) -> Names:
        """Providers, models and handlers of the newest campaigns."""
        return await self._names(campaigns)

    async def open_counts(self) -> tuple[int, int]:
        """How many campaigns are open, and how many need somebody's attention, or have a batch that does."""
        is_open, troubled = (func.count().filter(condition) for condition in (unfinished(campaigns), _NEEDS_ATTENTION))
        columns: list[ColumnElement[Any]] = [is_open.label("open"), troubled.label("troubled")]
        (row,) = await self._rows(select(*columns).select_from(campaigns))
        return row.open, row.troubled

    async def is_known(self, campaign_id: UUID) -> bool:
        """Whether there is a campaign of this id."""
        return bool(await self._rows(select(campaigns.c.id).where(campaigns.c.id == campaign_id)))

    async def get(self, campaign_id: UUID) -> ShownCampaign:
        """A campaign with the sums over each of its rounds.

        Raises:
            UnknownCampaignError: there is no such campaign.
        """
        own, columns = batches.c.campaign_id == campaign_id, [*shown_columns(campaigns), _IS_LEFT.label("is_left")]
        by_round = select(batches.c.round, *_tally_columns()).where(own).group_by(func.rollup(batches.c.round))
        async with self.reading() as connection:
            query = select(*columns).where(campaigns.c.id == campaign_id)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise UnknownCampaignError(campaign_id)
            found = (await connection.execute(by_round.order_by(batches.c.round))).all()
            troubled = select(func.count()).select_from(batches).where(own, *_TROUBLED)
            count = (await connection.execute(troubled)).scalar_one()
        rounds: dict[Any, Tally] = {group.round: _tally(group) for group in found}
        return _shown_campaign(row, rounds.pop(None), rounds, troubled=count)

    async def batches(
        self, campaign_id: UUID, choice: BatchChoice, *, number: int | None, place: Place, size: int
    ) -> Page[ListedBatch]:
        """Its batches, in the order in which they were filled; with `number` those of that round alone."""
        rows = await self._rows(_part_page(campaign_id, choice, number, place, size))
        listed = [listed_batch(row) for row in rows]
        return page_of(listed, size, backwards=place.backwards, from_start=place.position == 0)


def _shown_campaign(row: Row[Any], total: Tally, rounds: Mapping[int, Tally], *, troubled: int) -> ShownCampaign:
    campaign = campaign_with(
        row,
        batches=total.batches,
        outcomes=total.latest,
        asked_again=sum(total.retried.values()),
        usage=total.usage,
        cost=total.cost,
    )
    return ShownCampaign(
        campaign=campaign,
        metadata=row.metadata_text,
        trouble_since=row.trouble_since,
        is_left=row.is_left,
        troubled=troubled,
        tally=total,
        rounds=rounds,
    )
