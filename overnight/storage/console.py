"""What the web console reads: pages by key, excerpts instead of whole texts, and sums that are stored already."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Date,
    LargeBinary,
    Row,
    ScalarSelect,
    Select,
    Text,
    and_,
    cast,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchFilter, Cost, Outcome, Usage
from overnight.errors import UnknownBatchError
from overnight.storage.batches import batch_of, usage_of
from overnight.storage.console_campaigns import CampaignReader
from overnight.storage.console_reading import (
    LATEST,
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
    EXCERPT,
    Attempt,
    BatchChoice,
    Edge,
    Excerpt,
    Hit,
    ListedBatch,
    ListedEntry,
    ListedStray,
    Names,
    Page,
    Part,
    Place,
    ShownBatch,
    ShownEntry,
    Spending,
    Spendings,
    StrayPlace,
)
from overnight.storage.listings import conditions
from overnight.storage.tables import batches, entries, outputs, results, stray_results, submissions

SLICE = 1_000_000
"""Characters, or bytes, of one piece of a whole text."""

_REASON = 300
_STRAY = 600
_GROUPS = 400

_COLUMNS: Mapping[Part, ColumnElement[Any]] = {
    Part.REQUEST: entries.c.request,
    Part.FIELDS: cast(entries.c.fields, Text),
    Part.RESPONSE: results.c.line,
    Part.OUTPUT: cast(outputs.c.output, Text),
    Part.TOOL_CALLS: cast(outputs.c.tool_calls, Text),
}


_USAGE = tuple(column for column in results.c if column.name.endswith("_tokens"))
_RESULT = (
    results.c.outcome,
    results.c.error_code,
    func.left(results.c.reason, _REASON).label("reason"),
    *_USAGE,
    results.c.cost,
    results.c.list_cost,
)


def _listed_entry(row: Row[Any]) -> ListedEntry:
    return ListedEntry(
        position=row.position,
        custom_id=row.custom_id,
        task=row.task,
        outcome=Outcome(row.outcome) if row.outcome else None,
        error_code=row.error_code,
        reason=row.reason,
        usage=usage_of(row) if row.outcome else Usage(),
        cost=Cost(billed=row.cost, list_price=row.list_cost),
    )


def _number_of(wanted: BatchFilter) -> ScalarSelect[int]:
    return select(func.count()).select_from(batches).where(*conditions(wanted)).scalar_subquery()


def _batch_page(choice: BatchChoice, edge: Edge | None, size: int) -> Select[Any]:
    attention = BatchFilter(unfinished=choice.open, needs_attention=choice.troubled)
    query = select(*LISTED_BATCH).where(*chosen(batches, choice), *conditions(attention))
    return newest_first(query, batches, edge, size)


def _entry_page(batch_id: UUID, place: Place, size: int, outcome: Outcome | None) -> Select[Any]:
    """The page's keys first, from one index; then its rows, each by its key."""
    table = entries if outcome is None else results
    beyond = table.c.position < place.position if place.backwards else table.c.position > place.position
    keys = select(table.c.position).where(table.c.batch_id == batch_id, beyond)
    if outcome is not None:
        # Spelled out in the statement, so that the planner sees that the index of what went wrong will do.
        keys = keys.where(results.c.outcome == literal(outcome.value, literal_execute=True))
    order = table.c.position.desc() if place.backwards else table.c.position
    page = keys.order_by(order).limit(size + 1).subquery("page")
    same_entry = and_(entries.c.batch_id == batch_id, entries.c.position == page.c.position)
    same_result = and_(results.c.batch_id == batch_id, results.c.position == page.c.position)
    return (
        select(entries.c.position, entries.c.custom_id, entries.c.task, *_RESULT)
        .select_from(page.join(entries, same_entry).outerjoin(results, same_result))
        .order_by(page.c.position.desc() if place.backwards else page.c.position)
    )


def _entry_rows(batch_id: UUID, *columns: ColumnElement[Any]) -> Select[Any]:
    def same(table: Any) -> ColumnElement[bool]:
        return and_(table.c.batch_id == entries.c.batch_id, table.c.position == entries.c.position)

    joined = entries.outerjoin(results, same(results)).outerjoin(outputs, same(outputs))
    return select(*columns).select_from(joined).where(entries.c.batch_id == batch_id)


def _shown_entry_query(batch_id: UUID, position: int) -> Select[Any]:
    texts = [func.left(column, EXCERPT).label(f"text_{part}") for part, column in _COLUMNS.items()]
    sizes = [func.octet_length(column).label(f"size_{part}") for part, column in _COLUMNS.items()]
    columns = (entries.c.position, entries.c.custom_id, entries.c.task, *_RESULT, *texts, *sizes)
    return _entry_rows(batch_id, *columns).where(entries.c.position == position)


def _stray_page(batch_id: UUID, after: StrayPlace | None, size: int) -> Select[Any]:
    table = stray_results.c
    key = (table.source, table.ends_at, table.number)
    start = func.substring(table.line, 1, _STRAY, type_=LargeBinary).label("start")
    columns = (*key, table.kind, table.custom_id, start, func.length(table.line).label("size"), table.received_at)
    query = select(*columns).where(table.batch_id == batch_id).order_by(*key).limit(size + 1)
    return query if after is None else query.where(tuple_(*key) > tuple_(*after))


def _search_query(custom_id: str, size: int) -> Select[Any]:
    """One look into the index of custom ids for each of the newest batches."""
    columns = (batches.c.id, batches.c.created_at, batches.c.model)
    latest = select(*columns).order_by(batches.c.created_at.desc()).limit(LATEST).subquery("latest")
    same_id = and_(entries.c.batch_id == latest.c.id, entries.c.custom_id == custom_id)
    found = select(entries.c.position).where(same_id).limit(1).lateral("found")
    result = and_(results.c.batch_id == latest.c.id, results.c.position == found.c.position)
    return (
        select(latest, found.c.position, results.c.outcome)
        .select_from(latest.join(found, true()).outerjoin(results, result))
        .order_by(latest.c.created_at.desc())
        .limit(size)
    )


def _spending_columns() -> list[ColumnElement[Any]]:
    unpriced = batches.c.ingested_at.is_not(None) & batches.c.cost.is_(None)
    sums = {"entries": batches.c.entry_count, "billed": batches.c.cost, "list_price": batches.c.list_cost}
    sums |= {name: batches.c[name] for name in ("input_tokens", "output_tokens")}
    return [
        func.count().label("batches"),
        func.count().filter(unpriced).label("unpriced"),
        *(func.coalesce(func.sum(column), 0).label(name) for name, column in sums.items()),
    ]


def _spending(row: Row[Any]) -> Spending:
    names = Spending.__dataclass_fields__
    return Spending(**{name: getattr(row, name) for name in names})


class ConsoleStore(Reader):
    """Reads for people."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.campaigns = CampaignReader(engine)

    async def batches(self, choice: BatchChoice, *, edge: Edge | None, size: int) -> Page[ListedBatch]:
        """Batches, the newest first."""
        rows = [listed_batch(row) for row in await self._rows(_batch_page(choice, edge, size))]
        return page_of(rows, size, backwards=bool(edge and edge.backwards), from_start=edge is None)

    async def names(self) -> Names:
        """Providers, models and handlers of the newest batches."""
        return await self._names(batches)

    async def open_counts(self) -> tuple[int, int]:
        """How many batches are open, and how many need somebody's attention, as `overnight list` finds them."""
        wanted = {"open": BatchFilter(unfinished=True), "troubled": BatchFilter(needs_attention=True)}
        columns: list[ColumnElement[Any]] = [_number_of(which).label(name) for name, which in wanted.items()]
        (row,) = await self._rows(select(*columns))
        return row.open, row.troubled

    async def batch(self, batch_id: UUID) -> ShownBatch:
        """A batch with its submissions.

        Raises:
            UnknownBatchError: there is no such batch.
        """
        attempts = select(submissions).where(submissions.c.batch_id == batch_id).order_by(submissions.c.number)
        async with self.reading() as connection:
            query = select(*shown_columns(batches)).where(batches.c.id == batch_id)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise UnknownBatchError(batch_id)
            tried = (await connection.execute(attempts)).mappings().all()
        names = Attempt.__dataclass_fields__
        return ShownBatch(
            batch=batch_of(row),
            trouble_since=row.trouble_since,
            price_version=row.price_version,
            metadata=row.metadata_text,
            attempts=[Attempt(**{name: attempt[name] for name in names}) for attempt in tried],
        )

    async def entries(
        self, batch_id: UUID, *, place: Place, size: int, outcome: Outcome | None = None
    ) -> Page[ListedEntry]:
        """Entries of a batch, in the order of adding."""
        rows = [_listed_entry(row) for row in await self._rows(_entry_page(batch_id, place, size, outcome))]
        return page_of(rows, size, backwards=place.backwards, from_start=place.position == 0)

    async def entry(self, batch_id: UUID, position: int) -> ShownEntry | None:
        """An entry with the beginnings of its texts; None where there is none."""
        found = await self._rows(_shown_entry_query(batch_id, position))
        if not found:
            return None
        row = found[0]
        texts = {part: (getattr(row, f"text_{part}"), getattr(row, f"size_{part}")) for part in Part}
        known = {part: Excerpt(text=words, size=size) for part, (words, size) in texts.items() if words is not None}
        return ShownEntry(entry=_listed_entry(row), texts=known)

    async def position_of(self, batch_id: UUID, custom_id: str) -> int | None:
        """Where in its batch an entry is."""
        same = (entries.c.batch_id == batch_id, entries.c.custom_id == custom_id)
        rows = await self._rows(select(entries.c.position).where(*same))
        return rows[0].position if rows else None

    async def entry_slice(self, batch_id: UUID, position: int, part: Part, start: int) -> str | None:
        """Some characters of a text, from the `start`-th; None where there is no such text."""
        piece = func.substring(_COLUMNS[part], literal(start + 1), literal(SLICE))
        rows = await self._rows(_entry_rows(batch_id, piece).where(entries.c.position == position))
        return rows[0][0] if rows else None

    async def strays(self, batch_id: UUID, *, after: StrayPlace | None, size: int) -> Page[ListedStray]:
        """Lines of a batch that are no entry's result, in the order of receiving."""
        rows = await self._rows(_stray_page(batch_id, after, size))
        listed = [
            ListedStray(
                place=StrayPlace(row.source, row.ends_at, row.number),
                kind=row.kind,
                custom_id=row.custom_id,
                start=bytes(row.start),
                size=row.size,
                received_at=row.received_at,
            )
            for row in rows
        ]
        return page_of(listed, size, backwards=False, from_start=after is None)

    async def stray_slice(self, batch_id: UUID, place: StrayPlace, start: int) -> bytes | None:
        """Some bytes of a stray line; None where there is no such line."""
        table = stray_results.c
        piece = func.substring(table.line, start + 1, SLICE, type_=LargeBinary)
        same = tuple_(table.source, table.ends_at, table.number) == tuple_(*place)
        rows = await self._rows(select(piece).where(table.batch_id == batch_id, same))
        return bytes(rows[0][0]) if rows else None

    async def search(self, custom_id: str, *, size: int) -> Sequence[Hit]:
        """Entries of this custom id in the newest batches."""
        return [
            Hit(
                batch_id=row.id,
                created_at=row.created_at,
                model=row.model,
                position=row.position,
                outcome=Outcome(row.outcome) if row.outcome else None,
            )
            for row in await self._rows(_search_query(custom_id, size))
        ]

    async def batch_at_provider(self, provider_batch_id: str, providers: Sequence[str]) -> UUID | None:
        """Which batch the provider knows by this id."""
        same = (batches.c.provider.in_(providers), batches.c.provider_batch_id == provider_batch_id)
        rows = await self._rows(select(batches.c.id).where(*same))
        return rows[0].id if rows else None

    async def spendings(self, since: datetime) -> Spendings:
        """What the batches cost that were created since then; by the day of creation, in UTC."""
        day = cast(func.timezone(literal_column("'UTC'"), batches.c.created_at), Date).label("day")
        handler = handler_of(batches).label("handler")
        dearest = func.sum(batches.c.cost).desc().nulls_last()
        query = select(*_spending_columns()).where(batches.c.created_at >= since)
        async with self.reading() as connection:

            async def rows(*keys: ColumnElement[Any], order: ColumnElement[Any]) -> Sequence[Row[Any]]:
                grouped = query.add_columns(*keys).group_by(*keys).order_by(order).limit(_GROUPS)
                found: Sequence[Row[Any]] = (await connection.execute(grouped)).all()
                return found

            return Spendings(
                days={row.day: _spending(row) for row in await rows(day, order=day)},
                models={
                    (row.provider, row.model): _spending(row)
                    for row in await rows(batches.c.provider, batches.c.model, order=dearest)
                },
                handlers={row.handler: _spending(row) for row in await rows(handler, order=dearest)},
                total=_spending((await connection.execute(query)).one()),
            )
