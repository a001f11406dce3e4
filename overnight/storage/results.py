"""Rows of `results` and `stray_results`: result lines go in once, in blocks that commit with their position."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, Update, case, cast, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Batch, BatchStatus, Outcome
from overnight.errors import OvernightError
from overnight.positions import PositionSet
from overnight.providers.base import ResultPosition
from overnight.storage.batches import MAX_AGE_EXCEEDED, lock_batch
from overnight.storage.database import WITHOUT_WAITING, copying
from overnight.storage.result_rows import COPY_PLAIN_RESULTS, COPY_RESULTS, NewResult, rows_of
from overnight.storage.tables import batches, entries, results, stray_results

_COPY_STRAYS = "copy overnight.stray_results (batch_id, source, ends_at, number, kind, custom_id, line) from stdin"
_COPY_SEEN = "copy (select position from overnight.results where batch_id = %s) to stdout"


class IngestConflictError(OvernightError):
    """Somebody else ingests the same batch; its progress stands, this attempt must start again from there."""


@dataclass(frozen=True, kw_only=True)
class Stray:
    """A line that is no entry's result: `malformed`, `unknown` or `duplicate`."""

    number: int
    kind: str
    custom_id: str | None
    line: bytes


@dataclass(frozen=True, kw_only=True)
class IngestedBlock:
    """A block of lines, sorted out, and the positions before and behind it.

    Attributes:
        plain: the rows of plain lines, ready to be sent, and how many they are.
        results: all other lines that are the first for their entry.
    """

    before: ResultPosition
    after: ResultPosition
    plain: bytes = b""
    plain_count: int = 0
    results: Sequence[NewResult]
    strays: Sequence[Stray]

    @property
    def accepted(self) -> int:
        """How many lines are an entry's result."""
        return self.plain_count + len(self.results)


@dataclass(frozen=True, kw_only=True)
class LineCounts:
    """Every received line accounted for."""

    accepted: int
    duplicate: int
    unknown: int
    malformed: int
    without_line: int

    @property
    def distinct(self) -> int:
        """Lines that are no repetition of another: as many as the provider can have counted."""
        return self.accepted + self.unknown + self.malformed


_NO_LINE = {
    BatchStatus.CANCELED: (
        Outcome.CANCELED,
        "batch_canceled",
        "The batch was canceled before this entry was answered.",
    ),
    BatchStatus.EXPIRED: (Outcome.EXPIRED, "batch_expired", "The batch expired before this entry was answered."),
    BatchStatus.ENDED: (Outcome.MISSING, "no_result_line", "The batch is over and the provider gave no result for it."),
}


def outcome_without_line(batch: Batch) -> tuple[Outcome, str, str]:
    """The outcome, code and reason of the entries for which the provider gave no line."""
    if batch.status is BatchStatus.FAILED:
        code, reason = batch.failure_code or "batch_failed", batch.failure_reason or "The batch failed."
        return (Outcome.EXPIRED if code == MAX_AGE_EXCEEDED else Outcome.ERRORED), code, reason
    return _NO_LINE[batch.status]


class ResultStore:
    """Results of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def position(self, batch_id: UUID) -> ResultPosition:
        """How far the lines of this batch are committed."""
        query = select(batches.c.ingest_source, batches.c.ingest_offset).where(batches.c.id == batch_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one()
        return ResultPosition(source=row.ingest_source, offset=row.ingest_offset)

    async def age(self, batch_id: UUID) -> timedelta:
        """Since the batch was submitted, by the clock that noted it: a worker's own may be days ahead, and results that
        are too old to be there are given up.
        """
        since = func.coalesce(batches.c.submitted_at, batches.c.created_at)
        async with self._engine.connect() as connection:
            query = select(cast(func.now() - since, Interval)).where(batches.c.id == batch_id)
            age: timedelta = (await connection.execute(query)).scalar_one()
        return age

    async def seen(self, batch_id: UUID) -> PositionSet:
        """The entries that have a result already, by position."""
        seen = PositionSet()
        async with self._engine.connect() as connection, copying(connection, _COPY_SEEN, batch_id) as copy:
            async for block in copy:
                seen.add(int(bytes(block)))
        return seen

    async def write(self, batch_id: UUID, block: IngestedBlock) -> None:
        """Commit a block together with its position, without waiting for the disk: whatever Postgres loses in a crash,
        it loses both, and the lines are read again. `flush` waits.

        Raises:
            IngestConflictError: the position is not where this block begins; another process was faster.
        """
        async with self._engine.begin() as connection:
            await connection.execute(WITHOUT_WAITING)
            await self._advance(connection, batch_id, block)
            await self._copy_results(connection, batch_id, block)
            if block.strays:
                await self._copy_strays(connection, batch_id, block)

    async def flush(self, batch_id: UUID, position: ResultPosition) -> None:
        """Wait until every block up to a position is on the disk.

        Raises:
            IngestConflictError: some of them are not even there; Postgres has crashed, or somebody else is at work.
        """
        async with self._engine.begin() as connection:
            there = await connection.execute(_at(batch_id, position).values(ingest_offset=position.offset))
            if there.rowcount != 1:
                raise IngestConflictError(
                    f"Batch {batch_id} is not where this process left it: Postgres has lost the newest results in a "
                    "crash, or another process ingests it as well. The next attempt goes on from what there is."
                )

    async def _advance(self, connection: AsyncConnection, batch_id: UUID, block: IngestedBlock) -> None:
        after = {"ingest_source": block.after.source, "ingest_offset": block.after.offset}
        moved = await connection.execute(_at(batch_id, block.before).values(after))
        if moved.rowcount != 1:
            raise IngestConflictError(f"Batch {batch_id} is being ingested by another process as well.")

    async def _copy_results(self, connection: AsyncConnection, batch_id: UUID, block: IngestedBlock) -> None:
        if block.plain:
            async with copying(connection, COPY_PLAIN_RESULTS) as copy:
                await copy.write(memoryview(block.plain))  # the driver cuts it up, a view without copying
        if block.results:
            async with copying(connection, COPY_RESULTS) as copy:
                await copy.write(rows_of(batch_id, block.results))

    async def _copy_strays(self, connection: AsyncConnection, batch_id: UUID, block: IngestedBlock) -> None:
        source, ends_at = block.after.source, block.after.offset
        async with copying(connection, _COPY_STRAYS) as copy:
            for stray in block.strays:
                row = (batch_id, source, ends_at, stray.number, stray.kind, stray.custom_id, stray.line)
                await copy.write_row(row)

    async def awaited(self, batch_id: UUID) -> timedelta:
        """Note that results are incomplete, and say for how long they have been, by the clock that noted it first."""
        since = func.coalesce(batches.c.results_awaited_since, func.now())
        note = update(batches).where(batches.c.id == batch_id).values(results_awaited_since=since)
        waited = cast(func.now() - batches.c.results_awaited_since, Interval)
        async with self._engine.begin() as connection:
            found: timedelta = (await connection.execute(note.returning(waited))).scalar_one()
        return found

    async def give_up(self, batch_id: UUID) -> None:
        """Results that the provider has, or had, cannot be read any more: a person must know, also when all is over."""
        lost = func.coalesce(batches.c.results_lost_at, func.now())
        async with self._engine.begin() as connection:
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(results_lost_at=lost))

    async def finish(
        self, batch_id: UUID, *, price_version: str | None, is_all: bool = True, is_priced: bool = False
    ) -> Batch:
        """Give every entry without a line its outcome, and add everything up. Doing it again changes nothing.

        Args:
            batch_id: which batch.
            price_version: which prices its results have.
            is_all: false where the provider may have billed more than was read: what it cost is not known then.
            is_priced: whether the model has a price, so that a line without a cost is one whose cost is not known.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.ingested_at is None:
                await self._insert_without_line(connection, batch)
                sums = await self._sums(connection, batch_id, is_priced=is_priced)
                known = {} if is_all else {"cost": None, "list_cost": None}
                values = {**sums, **known, "ingested_at": func.now(), "price_version": price_version}
                await connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
            return await lock_batch(connection, batch_id)

    async def _insert_without_line(self, connection: AsyncConnection, batch: Batch) -> None:
        outcome, code, reason = outcome_without_line(batch)
        with_line = select(results.c.position).where(
            results.c.batch_id == batch.id, results.c.position == entries.c.position
        )
        without = select(
            entries.c.batch_id, entries.c.position, literal(outcome.value), literal(code), literal(reason)
        ).where(entries.c.batch_id == batch.id, ~with_line.exists())
        columns = ["batch_id", "position", "outcome", "error_code", "reason"]
        await connection.execute(insert(results).from_select(columns, without))

    async def _sums(self, connection: AsyncConnection, batch_id: UUID, *, is_priced: bool) -> dict[str, Any]:
        row = (await connection.execute(_totals(batch_id, is_priced=is_priced))).one()
        return {**row._asdict(), "outcomes": await outcome_counts(connection, batch_id)}

    async def line_counts(self, batch_id: UUID) -> LineCounts:
        """What became of the received lines."""
        query = (
            select(stray_results.c.kind, func.count())
            .where(stray_results.c.batch_id == batch_id)
            .group_by(stray_results.c.kind)
        )
        with_line = select(func.count(results.c.line), func.count()).where(results.c.batch_id == batch_id)
        async with self._engine.connect() as connection:
            strays = {row.kind: row[1] for row in await connection.execute(query)}
            lines, rows = (await connection.execute(with_line)).one()
        return LineCounts(
            accepted=lines,
            duplicate=strays.get("duplicate", 0),
            unknown=strays.get("unknown", 0),
            malformed=strays.get("malformed", 0),
            without_line=rows - lines,
        )


def _at(batch_id: UUID, position: ResultPosition) -> Update:
    """Of a batch whose lines are committed up to a position and no further."""
    return update(batches).where(
        batches.c.id == batch_id,
        batches.c.ingest_source == position.source,
        batches.c.ingest_offset == position.offset,
        batches.c.ingested_at.is_(None),
    )


async def outcome_counts(connection: AsyncConnection, batch_id: UUID) -> dict[str, int]:
    """Entries per outcome."""
    query = select(results.c.outcome, func.count()).where(results.c.batch_id == batch_id).group_by(results.c.outcome)
    return {row.outcome: row[1] for row in await connection.execute(query)}


def _totals(batch_id: UUID, *, is_priced: bool) -> Any:
    """Token and cost sums. A batch with one entry of unknown cost has an unknown cost, not a lower one.

    Where the model has no price, entries that failed without a token have no cost either, and are free all the same.
    """
    tokens = [column for column in results.c if column.name.endswith("_tokens")]
    sums: list[ColumnElement[Any]] = [func.coalesce(func.sum(column), 0).label(column.name) for column in tokens]
    paid = (func.greatest(*tokens) > 0) | (results.c.outcome == Outcome.SUCCEEDED.value)
    if is_priced:
        paid |= results.c.line.is_not(None)
    for column in (results.c.cost, results.c.list_cost):
        unknown = func.bool_or(paid & column.is_(None))
        sums.append(case((unknown, None), else_=func.coalesce(func.sum(column), Decimal(0))).label(column.name))
    return select(*sums).where(results.c.batch_id == batch_id)
