"""Rounds: entries that did not succeed are put into further batches, linked with what they ask again."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Text, and_, bindparam, cast, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Outcome
from overnight.planning import Share
from overnight.storage.campaigns import is_to_end, lock_campaign
from overnight.storage.filling import Filler, FurtherEntry
from overnight.storage.tables import attempts, batches, campaigns, entries, results

_PAGE_ENTRIES = 1_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An entry that may be asked again, with what came of it; texts as stored."""

    batch_id: UUID
    position: int
    custom_id: str
    task: str | None
    fields: str | None
    request: str
    outcome: Outcome
    error_code: str
    reason: str
    line: str | None


@dataclass(frozen=True, kw_only=True)
class WorthAnotherTry:
    """Which entries a round asks again.

    Attributes:
        codes: those of `errored` entries that another try may heal.
        invalid: also those whose answer did not fit.
    """

    codes: Collection[str]
    invalid: bool

    @property
    def condition(self) -> ColumnElement[bool]:
        """The same, for a query."""
        outcomes = [Outcome.EXPIRED, Outcome.MISSING, *([Outcome.INVALID] if self.invalid else [])]
        known = results.c
        return or_(
            known.outcome.in_([outcome.value for outcome in outcomes]),
            and_(known.outcome == Outcome.ERRORED.value, known.error_code.in_(sorted(self.codes))),
        )


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A round: its number, and what is in it, or why it is skipped."""

    round: int
    batches: int
    entries: int
    skipped: str | None = None


class RoundStore:
    """Rounds of campaigns."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def candidates(self, campaign_id: UUID, after: int, wanted: WorthAnotherTry) -> AsyncIterator[Candidate]:
        """The entries of round `after` that are worth another try, in the order of adding."""
        of_round = batches.c.campaign_id == campaign_id, batches.c.round == after
        async with self._engine.connect() as connection:
            query = select(batches.c.id).where(*of_round).order_by(batches.c.number)
            found = (await connection.execute(query)).scalars().all()
        for batch_id in found:
            async for candidate in self._of_batch(batch_id, wanted):
                yield candidate

    async def _of_batch(self, batch_id: UUID, wanted: WorthAnotherTry) -> AsyncIterator[Candidate]:
        same = and_(entries.c.batch_id == results.c.batch_id, entries.c.position == results.c.position)
        query = (
            select(
                results.c.batch_id,
                results.c.position,
                entries.c.custom_id,
                entries.c.task,
                cast(entries.c.fields, Text).label("fields"),
                entries.c.request,
                results.c.outcome,
                results.c.error_code,
                results.c.reason,
                results.c.line,
            )
            .join(entries, same)
            .where(results.c.batch_id == batch_id, results.c.position > bindparam("after"), wanted.condition)
            .order_by(results.c.position)
            .limit(_PAGE_ENTRIES)
        )
        after = 0
        while True:
            async with self._engine.connect() as connection:
                page = (await connection.execute(query, {"after": after})).all()
            if not page:
                return
            for row in page:
                values = row._asdict() | {"outcome": Outcome(row.outcome)}
                yield Candidate(**values | {name: values[name] or "" for name in ("error_code", "reason")})
            after = page[-1].position

    async def plan(
        self,
        campaign_id: UUID,
        after: int,
        further: AsyncIterable[FurtherEntry],
        share: Share,
        *,
        objection: Callable[[], str | None] | None = None,
    ) -> Planned:
        """Write the round after `after`: all of it or nothing. One that is there already, or was skipped, is left so.
        A campaign that is over, or to be stopped, gets none: whoever plans may have been taken for dead meanwhile.

        Args:
            campaign_id: which campaign.
            after: the round before.
            further: its entries.
            share: what a batch may hold.
            objection: asked when all entries are known, why they shall not be asked; that is noted then, and nothing
                else.
        """
        async with self._engine.begin() as connection:
            campaign = await lock_campaign(connection, campaign_id)
            skipped = campaign.skipped_round
            if campaign.round == after and skipped is None and not is_to_end(campaign):
                skipped = await _fill(connection, campaign, further, share, objection)
            planned = await _planned(connection, campaign_id, after + 1)
        return replace(planned, skipped=skipped)


async def _fill(
    connection: AsyncConnection,
    campaign: Row[Any],
    further: AsyncIterable[FurtherEntry],
    share: Share,
    objection: Callable[[], str | None] | None,
) -> str | None:
    """Fill the round, unless there is an objection, which is returned."""
    filler = Filler(connection, campaign, share, round_number=campaign.round + 1)
    async with connection.begin_nested() as savepoint:
        count = await filler.fill(further)
        against = objection() if objection and count else None
        if against is not None:
            await savepoint.rollback()
    values: dict[str, Any] = {}
    if against is not None:
        values = {"skipped_round": against}
    elif count:
        await _count_retried(connection, campaign.id, campaign.round)
        values = {"round": campaign.round + 1}
    if values:
        await connection.execute(update(campaigns).where(campaigns.c.id == campaign.id).values(values))
    return against


async def _count_retried(connection: AsyncConnection, campaign_id: UUID, after: int) -> None:
    """Note on each batch which of its outcomes are not the last word any more."""
    of_round = select(batches.c.id).where(batches.c.campaign_id == campaign_id, batches.c.round == after)
    same = and_(results.c.batch_id == attempts.c.earlier_batch_id, results.c.position == attempts.c.earlier_position)
    counts = (
        select(results.c.batch_id, results.c.outcome, func.count().label("count"))
        .join(attempts, same)
        .where(attempts.c.earlier_batch_id.in_(of_round))
        .group_by(results.c.batch_id, results.c.outcome)
        .subquery()
    )
    each = select(counts.c.batch_id, func.jsonb_object_agg(counts.c.outcome, counts.c.count).label("retried"))
    found = each.group_by(counts.c.batch_id).subquery()
    await connection.execute(update(batches).where(batches.c.id == found.c.batch_id).values(retried=found.c.retried))


async def _planned(connection: AsyncConnection, campaign_id: UUID, number: int) -> Planned:
    query = select(func.count(), func.coalesce(func.sum(batches.c.entry_count), 0)).where(
        batches.c.campaign_id == campaign_id, batches.c.round == number
    )
    count, entry_count = (await connection.execute(query)).one()
    return Planned(round=number, batches=count, entries=entry_count)
