"""Forgetting: prompts and responses go, counts and costs stay.

Rows are written once while a batch lives, so forgetting is the only thing that rewrites them. It goes page by page,
each a transaction of its own: a batch of a million entries then holds no lock for long, and a stopped run goes on where
it stopped. The space returns to the table with Postgres' next vacuum.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Table, Update, and_, delete, exists, func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Batch
from overnight.errors import BatchOpenError
from overnight.storage.batches import lock_batch
from overnight.storage.tables import batches, campaigns, entries, outputs, results, stray_results

_PAGE = 10_000


# A further round, or the campaign's own handler, still reads its batches.
_IS_NEEDED = exists().where(campaigns.c.id == batches.c.campaign_id, campaigns.c.handler_dispatched_at.is_(None))


class RetentionStore:
    """What may be forgotten, and how."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def due(self, age: timedelta) -> Sequence[UUID]:
        """Batches whose handler ran longer ago than `age`, and whose texts are still here; the oldest first."""
        query = (
            select(batches.c.id)
            .where(batches.c.pruned_at.is_(None), batches.c.handler_dispatched_at < func.now() - age, ~_IS_NEEDED)
            .order_by(batches.c.handler_dispatched_at)
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).scalars().all()

    async def prune(self, batch_id: UUID) -> int:
        """Delete prompts, fields, responses, reasons and outputs of a batch that is over; returns how many entries had
        some. Custom ids, outcomes, tokens and costs stay, entry by entry.

        Raises:
            UnknownBatchError: there is no such batch.
            BatchOpenError: it is not over yet.
        """
        async with self._engine.begin() as connection:
            batch = await _handled(connection, batch_id)
        for first in range(1, batch.entry_count + 1, _PAGE):
            async with self._engine.begin() as connection:
                await _forget_texts(connection, batch_id, first, first + _PAGE)
        async with self._engine.begin() as connection:
            await connection.execute(delete(stray_results).where(stray_results.c.batch_id == batch_id))
            await connection.execute(_stamped(batch_id, last_error=null(), pruned_at=func.now()))
            await connection.execute(_without_error(batch.campaign_id))
        return batch.entry_count

    async def erase(self, batch_id: UUID) -> None:
        """Delete every row of a batch that is over but its own: counts, costs and dates stay, and no custom id,
        metadata or text. A batch that was never submitted goes altogether.

        Raises:
            UnknownBatchError: there is no such batch.
            BatchOpenError: it is in flight.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.sealed_at is None and batch.campaign_id is None:
                await connection.execute(delete(batches).where(batches.c.id == batch_id))
                return
            await _handled(connection, batch_id)
            for table in (outputs, results, stray_results, entries):
                await connection.execute(delete(table).where(table.c.batch_id == batch_id))
            nothing = {"metadata": {}, "last_error": null(), "failure_reason": null(), "provider_details": {}}
            await connection.execute(_stamped(batch_id, **nothing, pruned_at=func.now()))
            await connection.execute(_without_error(batch.campaign_id))


async def _handled(connection: AsyncConnection, batch_id: UUID) -> Batch:
    batch = await lock_batch(connection, batch_id)
    needed = select(batches.c.id).where(batches.c.id == batch_id, _IS_NEEDED)
    if batch.handler_dispatched_at is None or (await connection.execute(needed)).one_or_none() is not None:
        raise BatchOpenError(batch_id)
    return batch


def _stamped(batch_id: UUID, **values: object) -> Update:
    return update(batches).where(batches.c.id == batch_id).values(**values)


def _without_error(campaign_id: UUID | None) -> Update:
    """A campaign keeps what its handler's failure said, which may quote an entry of any of its batches."""
    return update(campaigns).where(campaigns.c.id == campaign_id).values(last_error=null())


async def _forget_texts(connection: AsyncConnection, batch_id: UUID, first: int, end: int) -> None:
    def page(table: Table) -> ColumnElement[bool]:
        return and_(table.c.batch_id == batch_id, table.c.position >= first, table.c.position < end)

    await connection.execute(delete(outputs).where(page(outputs)))
    await connection.execute(update(results).where(page(results)).values(line=null(), reason=null()))
    await connection.execute(update(entries).where(page(entries)).values(request="", fields=null()))
