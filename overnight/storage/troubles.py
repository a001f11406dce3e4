"""What keeps a step from succeeding, noted on the row of the batch or campaign whose step it is."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Table, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.storage.database import autocommitting


class Troubled:
    """A table whose rows have the columns `last_error`, `trouble_code` and `trouble_since`."""

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        self._engine, self._autocommit, self._table = engine, autocommitting(engine), table

    async def note_trouble(self, row_id: UUID, code: str, *, urgent: bool) -> bool:
        """A step failed. Says whether that is news: the first failure since things went well, or, where somebody must
        act, of this code. What heals by itself fails in many ways in turn, and is told once.
        """
        known = self._table.c
        news = known.trouble_code.is_distinct_from(code) if urgent else known.trouble_code.is_(None)
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                update(self._table)
                .where(known.id == row_id, news)
                .values(trouble_code=code, trouble_since=func.coalesce(known.trouble_since, func.now()))
            )
        return changed.rowcount == 1

    async def clear_trouble(self, row_id: UUID) -> tuple[str, datetime] | None:
        """A step succeeded. Says what the trouble was, and since when, if there was any."""
        known = self._table.c
        before = select(known.trouble_code, known.trouble_since).where(
            known.id == row_id, known.trouble_code.is_not(None)
        )
        async with self._autocommit.connect() as connection:
            if (await connection.execute(before)).one_or_none() is None:  # as nearly always
                return None
        async with self._engine.begin() as connection:
            row = (await connection.execute(before.with_for_update(key_share=True))).one_or_none()
            if row is None:
                return None
            values = {"trouble_code": None, "trouble_since": None}
            await connection.execute(update(self._table).where(known.id == row_id).values(values))
        return row.trouble_code, row.trouble_since

    async def record_error(self, row_id: UUID, text: str | None) -> None:
        """Keep the full text of a step's failure, which may quote prompts and so can go nowhere else."""
        async with self._engine.begin() as connection:
            await connection.execute(update(self._table).where(self._table.c.id == row_id).values(last_error=text))
