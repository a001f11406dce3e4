"""Rows of `outputs`, the verdicts of hydration, and entries as a whole: asked, answered, understood."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Row,
    Select,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Batch, Cost, Outcome, Usage
from overnight.errors import OvernightError
from overnight.storage.answers import COPY_OUTPUTS, Answer, Verdict, answer_pages, output_rows
from overnight.storage.batches import lock_batch, usage_of
from overnight.storage.database import WITHOUT_WAITING, copying
from overnight.storage.results import outcome_counts
from overnight.storage.tables import attempts, batches, entries, outputs, results

_PAGE_ENTRIES = 1_000
_PAGE_BYTES = 8 * 1024 * 1024


class HydrateConflictError(OvernightError):
    """Somebody else hydrates the same batch; its progress stands, this attempt must start again from there."""


@dataclass(frozen=True, kw_only=True)
class StoredEntry:
    """An entry with everything that is known of it, as text where only a Task can read it."""

    position: int
    custom_id: str
    task: str | None
    fields: str | None
    outcome: Outcome | None
    error_code: str | None
    reason: str | None
    usage: Usage
    cost: Cost
    line: str | None
    output: str | None
    tool_calls: str | None = None


def _same_entry(table: Table) -> ColumnElement[bool]:
    # The last condition follows from the page's own, but the planner does not see that: without it a late page reads
    # the table from the batch's first row.
    return and_(
        table.c.batch_id == entries.c.batch_id,
        table.c.position == entries.c.position,
        table.c.position > bindparam("after"),
    )


def _page_query(outcomes: Collection[Outcome] | None, task: str | None, *, latest: bool) -> Select[Any]:
    """One page of entries with their results and outputs, by position: served by the three primary keys."""
    query = _entries_query().order_by(entries.c.position).limit(_PAGE_ENTRIES)
    query = query.where(entries.c.batch_id == bindparam("batch_id"), entries.c.position > bindparam("after"))
    if latest:
        query = query.where(~_asked_again())
    if task is not None:
        query = query.where(entries.c.task == task)
    if outcomes is None:
        return query
    return query.where(results.c.outcome.in_([outcome.value for outcome in outcomes]))


def _asked_again() -> ColumnElement[bool]:
    later = attempts.c.earlier_batch_id == entries.c.batch_id, attempts.c.earlier_position == entries.c.position
    return select(attempts.c.position).where(*later, attempts.c.earlier_position > bindparam("after")).exists()


def _entries_query() -> Select[Any]:
    return select(
        entries.c.position,
        entries.c.custom_id,
        entries.c.task,
        # As text: parsing is the Task's, and Python's own JSON reader is not the one that wrote it.
        cast(entries.c.fields, Text).label("fields"),
        *(column for column in results.c if column.name not in {"batch_id", "position"}),
        cast(outputs.c.output, Text).label("output"),
        cast(outputs.c.tool_calls, Text).label("tool_calls"),
    ).select_from(entries.outerjoin(results, _same_entry(results)).outerjoin(outputs, _same_entry(outputs)))


def _earlier_query(batch_id: UUID, positions: Collection[int]) -> Select[Any]:
    """Every attempt's attempt before it, back to the first."""
    links = attempts.c
    first = select(links.position.label("later"), links.earlier_batch_id, links.earlier_position, literal(1).label("n"))
    chain = first.where(links.batch_id == batch_id, links.position.in_(positions)).cte("chain", recursive=True)
    before = and_(links.batch_id == chain.c.earlier_batch_id, links.position == chain.c.earlier_position)
    further = select(chain.c.later, links.earlier_batch_id, links.earlier_position, chain.c.n + 1)
    chain = chain.union_all(further.select_from(chain.join(attempts, before)))
    linked = and_(entries.c.batch_id == chain.c.earlier_batch_id, entries.c.position == chain.c.earlier_position)
    return _entries_query().add_columns(chain.c.later).join(chain, linked).order_by(chain.c.later, chain.c.n.desc())


def _size(row: Row[Any]) -> int:
    return len(row.line or "") + len(row.fields or "") + len(row.output or "") + len(row.tool_calls or "")


def _stored(row: Row[Any]) -> StoredEntry:
    return StoredEntry(
        position=row.position,
        custom_id=row.custom_id,
        task=row.task,
        fields=row.fields,
        outcome=Outcome(row.outcome) if row.outcome else None,
        error_code=row.error_code,
        reason=row.reason,
        usage=usage_of(row) if row.outcome else Usage(),
        cost=Cost(billed=row.cost, list_price=row.list_cost),
        line=row.line,
        output=row.output,
        tool_calls=row.tool_calls,
    )


def _at(batch_id: UUID, position: int) -> Update:
    """Of a batch whose verdicts are committed up to a position and no further."""
    return update(batches).where(
        batches.c.id == batch_id, batches.c.hydrate_position == position, batches.c.hydrated_at.is_(None)
    )


class OutputStore:
    """Outputs of batches, and their entries for reading."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def pages(
        self,
        batch_id: UUID,
        *,
        after: int = 0,
        outcomes: Collection[Outcome] | None = None,
        task: str | None = None,
        latest: bool = False,
    ) -> AsyncIterator[Sequence[StoredEntry]]:
        """The batch's entries behind a position, in the order of adding, in pages of bounded size; with `latest` only
        those that no further round asked again.

        No transaction stays open between pages.
        """
        query = _page_query(outcomes, task, latest=latest)
        while True:
            async with self._engine.connect() as connection:
                page: list[StoredEntry] = []
                size = 0
                async with connection.stream(query, {"batch_id": batch_id, "after": after}) as rows:
                    async for row in rows:
                        page.append(_stored(row))
                        after, size = row.position, size + _size(row)
                        if size > _PAGE_BYTES:
                            break
            if not page:
                return
            yield page

    async def earlier(self, batch_id: UUID, positions: Collection[int]) -> dict[int, list[StoredEntry]]:
        """What was asked before by entries of a further round, the first time first, by the position of the entry
        that asked last.
        """
        query = _earlier_query(batch_id, positions)
        found: dict[int, list[StoredEntry]] = {}
        async with self._engine.connect() as connection:
            for row in await connection.execute(query, {"after": 0}):
                found.setdefault(row.later, []).append(_stored(row))
        return found

    def answers(self, batch_id: UUID, *, after: int) -> AsyncGenerator[Sequence[Answer], None]:
        """What is to be hydrated behind a position, in pages of bounded size."""
        return answer_pages(self._engine, batch_id, after=after)

    async def hydrated_to(self, batch_id: UUID) -> int:
        """The position up to which verdicts are committed."""
        query = select(batches.c.hydrate_position).where(batches.c.id == batch_id)
        async with self._engine.connect() as connection:
            position: int = (await connection.execute(query)).scalar_one()
        return position

    async def write(self, batch_id: UUID, verdicts: Sequence[Verdict], *, before: int, after: int) -> None:
        """Commit a page of verdicts together with its position. Postgres may lose both in a crash, and the page is
        judged again; `flush` waits for the disk, and so does a page with tools that have run.

        Raises:
            HydrateConflictError: another process was faster.
        """
        async with self._engine.begin() as connection:
            if not any(verdict.tool_calls for verdict in verdicts):
                await connection.execute(WITHOUT_WAITING)
            moved = await connection.execute(_at(batch_id, before).values(hydrate_position=after))
            if moved.rowcount != 1:
                raise HydrateConflictError(f"Batch {batch_id} is being hydrated by another process as well.")
            await self._copy_outputs(connection, batch_id, verdicts)
            await self._mark_invalid(connection, batch_id, verdicts)

    async def flush(self, batch_id: UUID, position: int) -> None:
        """Wait until all verdicts up to a position are on the disk.

        Raises:
            HydrateConflictError: some of them are not even there; Postgres has crashed, or somebody else is at work.
        """
        async with self._engine.begin() as connection:
            there = await connection.execute(_at(batch_id, position).values(hydrate_position=position))
            if there.rowcount != 1:
                raise HydrateConflictError(
                    f"Batch {batch_id} is not where this process left it: Postgres has lost the newest outputs in a "
                    "crash, or another process hydrates it as well. The next attempt goes on from what there is."
                )

    async def _copy_outputs(self, connection: AsyncConnection, batch_id: UUID, verdicts: Sequence[Verdict]) -> None:
        rows = output_rows(batch_id, verdicts)
        if rows:
            async with copying(connection, COPY_OUTPUTS) as copy:
                await copy.write(rows)

    async def _mark_invalid(self, connection: AsyncConnection, batch_id: UUID, verdicts: Sequence[Verdict]) -> None:
        invalid = [verdict for verdict in verdicts if verdict.invalid]
        if not invalid:
            return
        # In one statement: a Task that everything is unfit for makes as many of these as there are entries.
        unnested = func.unnest(
            cast([verdict.position for verdict in invalid], ARRAY(Integer)),
            cast([verdict.error_code for verdict in invalid], ARRAY(Text)),
            cast([verdict.reason for verdict in invalid], ARRAY(Text)),
        )
        marks = unnested.table_valued("position", "code", "reason").render_derived(name="marks")
        await connection.execute(
            update(results)
            .where(results.c.batch_id == batch_id, results.c.position == marks.c.position)
            .values(outcome=Outcome.INVALID.value, error_code=marks.c.code, reason=marks.c.reason)
        )

    async def finish(self, batch_id: UUID) -> Batch:
        """Every outcome is final now. Doing it again changes nothing."""
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.hydrated_at is None:
                values = {"hydrated_at": func.now(), "outcomes": await outcome_counts(connection, batch_id)}
                await connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
            return await lock_batch(connection, batch_id)
