"""How the web console reads: in read-only transactions that Postgres ends by itself after a while, and in pages that
begin at a key. A page that somebody looks at must not hold up a batch.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, Table, Text, and_, cast, func, literal_column, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import BatchStatus, Cost, Outcome
from overnight.errors import DatabaseError
from overnight.storage.console_values import LONG, BatchChoice, Edge, ListedBatch, Names, Page
from overnight.storage.tables import batches

ItemT = TypeVar("ItemT")

LATEST = 1_000
"""Batches, or campaigns, that names are taken from, and custom ids are looked for in."""

_TIMEOUT = timedelta(seconds=15)


def handler_of(table: Table) -> ColumnElement[Any]:
    """What a batch or campaign is handled by, of either kind."""
    return func.coalesce(table.c.handler, table.c.handler_activity)


LISTED_BATCH = (
    batches.c.id,
    batches.c.number,
    batches.c.round,
    batches.c.provider,
    batches.c.model,
    handler_of(batches).label("handler"),
    batches.c.status,
    batches.c.entry_count,
    batches.c.progress_done,
    batches.c.outcomes,
    batches.c.cost,
    batches.c.list_cost,
    batches.c.created_at,
    batches.c.ended_at,
    batches.c.handler_dispatched_at,
    batches.c.trouble_code,
    batches.c.results_lost_at,
)


def listed_batch(row: Row[Any]) -> ListedBatch:
    """A batch of a list."""
    return ListedBatch(
        id=row.id,
        number=row.number,
        round=row.round,
        provider=row.provider,
        model=row.model,
        handler=row.handler,
        status=BatchStatus(row.status),
        entry_count=row.entry_count,
        done=row.progress_done,
        outcomes={Outcome(word): count for word, count in row.outcomes.items()},
        cost=Cost(billed=row.cost, list_price=row.list_cost),
        created_at=row.created_at,
        ended_at=row.ended_at,
        handled_at=row.handler_dispatched_at,
        trouble_code=row.trouble_code,
        results_lost_at=row.results_lost_at,
    )


def chosen(table: Table, choice: BatchChoice) -> list[ColumnElement[bool]]:
    """What its columns must be; whether it is open or in trouble is said elsewhere."""
    status = choice.status.value if choice.status else None
    equal = {table.c.provider: choice.provider, table.c.model: choice.model, handler_of(table): choice.handler}
    return [column == value for column, value in {**equal, table.c.status: status}.items() if value is not None]


def shown_columns(table: Table) -> list[ColumnElement[Any]]:
    """All that is ours, and what others wrote as text of bounded length: JSON may be deeper than Python can read."""
    texts = (table.c.failure_reason, table.c.last_error)
    replaced: dict[str, ColumnElement[Any]] = {text.name: func.left(text, LONG).label(text.name) for text in texts}
    nothing = cast(literal_column("'{}'"), JSONB)
    replaced |= {name: nothing.label(name) for name in ("metadata", "provider_details")}
    words = func.left(cast(table.c.metadata, Text), LONG).label("metadata_text")
    return [*(replaced.get(column.name, column) for column in table.c), words]


def newest_first(query: Select[Any], table: Table, edge: Edge | None, size: int) -> Select[Any]:
    """One page of batches or campaigns, and one row more. Backwards from an edge, the oldest come first."""
    order = (table.c.created_at, table.c.id)
    backwards = bool(edge and edge.backwards)
    if edge is not None:
        # The first condition follows from the second, but it alone is what the index on created_at can use.
        here, key = tuple_(edge.at, edge.id), tuple_(*order)
        older = and_(table.c.created_at <= edge.at, key < here)
        newer = and_(table.c.created_at >= edge.at, key > here)
        query = query.where(newer if backwards else older)
    return query.order_by(*(column if backwards else column.desc() for column in order)).limit(size + 1)


def page_of(rows: Sequence[ItemT], size: int, *, backwards: bool, from_start: bool) -> Page[ItemT]:
    """Of one row more than fits: it only says that there is more."""
    items, more = rows[:size], len(rows) > size
    if backwards:
        return Page(items=items[::-1], has_previous=more, has_next=True)
    return Page(items=items, has_previous=not from_start, has_next=more)


class Reader:
    """Reads, and nothing else."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(postgresql_readonly=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction of bounded length.

        Raises:
            DatabaseError: Postgres does not answer, or takes too long to.
        """
        try:
            async with self._engine.connect() as connection:
                await connection.execute(text(f"set local statement_timeout = {_TIMEOUT // timedelta(milliseconds=1)}"))
                yield connection
        except (OperationalError, InterfaceError, OSError) as error:
            raise DatabaseError(
                f"Postgres did not answer ({type(error).__name__}). Check that the server runs and is not overloaded; "
                f"a page may take {_TIMEOUT.seconds} s."
            ) from None

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        async with self.reading() as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
            return rows

    async def _names(self, table: Table) -> Names:
        columns = (table.c.provider, table.c.model, handler_of(table).label("handler"))
        latest = select(*columns).order_by(table.c.created_at.desc()).limit(LATEST).subquery("latest")
        rows = await self._rows(select(latest).distinct())
        providers, models, handlers = (sorted({row[n] for row in rows if row[n]}) for n in range(3))
        return Names(providers=providers, models=models, handlers=handlers)
