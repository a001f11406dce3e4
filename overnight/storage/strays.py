"""Reading `stray_results`: received lines that are no entry's result, in the order in which they came."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.storage.tables import stray_results

_PAGE = 500
_BYTES_SHOWN = 2_000


@dataclass(frozen=True, kw_only=True)
class StrayResult:
    """A stray line; `line` is its beginning, which is enough to see what it is."""

    received_at: datetime
    kind: str
    custom_id: str | None
    source: str
    size: int
    line: bytes
    place: tuple[Any, ...]
    """Where it stands in the order of reading."""


class StrayStore:
    """Stray results of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def pages(self, batch_id: UUID, *, after: tuple[Any, ...] = ()) -> AsyncIterator[Sequence[StrayResult]]:
        """The lines behind a place, in pages; blocks of lines are committed one after the other."""
        table = stray_results.c
        place = (table.received_at, table.source, table.ends_at, table.number)
        shown = func.substr(table.line, 1, _BYTES_SHOWN).label("shown")
        columns = (*place, table.kind, table.custom_id, func.length(table.line).label("size"), shown)
        query = select(*columns).where(table.batch_id == batch_id).order_by(*place).limit(_PAGE)
        while True:
            behind = query.where(tuple_(*place) > after) if after else query
            async with self._engine.connect() as connection:
                page = [_stray(row) for row in await connection.execute(behind)]
            if not page:
                return
            after = page[-1].place
            yield page


def _stray(row: Any) -> StrayResult:
    return StrayResult(
        received_at=row.received_at,
        kind=row.kind,
        custom_id=row.custom_id,
        source=row.source,
        size=row.size,
        line=bytes(row.shown),
        place=(row.received_at, row.source, row.ends_at, row.number),
    )
