"""How all is: a few numbers about what is unfinished, from the partial index of just those batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, union
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchFilter, BatchStatus
from overnight.storage.listings import conditions
from overnight.storage.tables import batches, campaigns


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """Of the batches that were submitted and whose handler has not run.

    Attributes:
        unfinished: how many, by provider and status.
        oldest_age: since the submission of the oldest; zero where there is none.
        needing_attention: those that somebody should look at.
    """

    unfinished: Mapping[tuple[str, BatchStatus], int]
    oldest_age: timedelta
    needing_attention: int


class VitalStore:
    """Reads them; cheap enough to be asked every few seconds, however many batches are finished."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self) -> Vitals:
        """The numbers as they are now."""
        age = func.now() - func.min(batches.c.sealed_at)
        counts = (
            select(batches.c.provider, batches.c.status, func.count(), age)
            .where(*conditions(BatchFilter(unfinished=True)))
            .group_by(batches.c.provider, batches.c.status)
        )
        attention = select(func.count()).select_from(batches).where(*conditions(BatchFilter(needs_attention=True)))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(counts)).all()
            needing = (await connection.execute(attention)).scalar_one()
        return Vitals(
            unfinished={(row[0], BatchStatus(row[1])): row[2] for row in rows},
            oldest_age=max((row[3] for row in rows), default=timedelta(0)),
            needing_attention=needing,
        )

    async def handler_task_queues(self) -> Sequence[str]:
        """Where handlers of unfinished batches and campaigns are to run, other than in the worker itself."""
        queues = [
            select(table.c.handler_task_queue).where(
                table.c.handler_task_queue.is_not(None),
                table.c.sealed_at.is_not(None),
                table.c.handler_dispatched_at.is_(None),
            )
            for table in (batches, campaigns)
        ]
        async with self._engine.connect() as connection:
            return sorted((await connection.execute(union(*queues))).scalars())
