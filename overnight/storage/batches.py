"""Rows of `batches`: what is known of a batch, and every change of its state.

Each method is one transaction. Changes of state are compare-and-set in SQL, so that it does not matter how many
workers, retries or zombies try: the first one wins and the others learn what it decided.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Row, Table, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import TERMINAL, Batch, BatchStatus, Cost, OnAmbiguousSubmit, Outcome, Progress, Usage
from overnight.errors import (
    BatchClosedError,
    BatchTakenOverError,
    CancelRefusedError,
    EmptyBatchError,
    OfCampaignError,
    UnknownBatchError,
)
from overnight.providers.base import ProviderReport
from overnight.schedule import PollSchedule
from overnight.storage.tables import batches, campaigns
from overnight.storage.troubles import Troubled

MAX_AGE_EXCEEDED = "max_age_exceeded"
"""The failure code of a batch that was waited for too long."""

AMBIGUOUS_SUBMIT = "ambiguous_submit"
"""Of a batch of which it could not be known whether the provider had taken it."""

FORGOTTEN = "restored"
"""Of a batch that was submitted in the time which a restored database has lost."""


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch to be."""

    id: UUID
    provider: str
    model: str
    endpoint: str
    handler: str | None
    handler_task_queue: str | None
    handler_activity: str | None = None
    parent_batch_id: UUID | None = None
    filling_token: UUID | None = None
    """Where the batch has a key: whoever knows this may fill it, until somebody else creates it by the same key."""
    max_cost: Decimal | None = None
    campaign_id: UUID | None = None
    number: int | None = None
    round: int | None = None
    metadata: Mapping[str, Any]
    schedule: PollSchedule
    on_ambiguous_submit: OnAmbiguousSubmit = OnAmbiguousSubmit.WAIT


def usage_of(row: Row[Any]) -> Usage:
    return Usage(
        input_tokens=row.input_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cache_write_tokens=row.cache_write_tokens,
        cache_write_1h_tokens=row.cache_write_1h_tokens,
        output_tokens=row.output_tokens,
        reasoning_tokens=row.reasoning_tokens,
    )


def plain_values(row: Row[Any], kind: type[Any]) -> dict[str, Any]:
    """The columns that stand in a value of this kind as they are, and under the same name."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in row._asdict().items() if name in names}


def batch_of(row: Row[Any]) -> Batch:
    """The value of a row."""
    derived: dict[str, Any] = {
        "status": BatchStatus(row.status),
        "schedule": PollSchedule(waits=tuple(row.poll_waits), max_age=row.max_age),
        "on_ambiguous_submit": OnAmbiguousSubmit(row.on_ambiguous_submit),
        "progress": Progress(total=row.progress_total, done=row.progress_done, failed=row.progress_failed),
        "outcomes": {Outcome(word): count for word, count in row.outcomes.items()},
        "retried": {Outcome(word): count for word, count in row.retried.items()},
        "usage": usage_of(row),
        "cost": Cost(billed=row.cost, list_price=row.list_cost),
    }
    return Batch(**plain_values(row, Batch) | derived)


def new_values(new: Any) -> dict[str, Any]:
    """The columns of a `NewBatch`, or of a `NewCampaign`: all but max age, which has another meaning in each."""
    return {
        **{field.name: getattr(new, field.name) for field in fields(new) if field.name != "schedule"},
        "metadata": dict(new.metadata),
        "on_ambiguous_submit": new.on_ambiguous_submit.value,
        "poll_waits": list(new.schedule.waits),
    }


def _settled(batch: Batch, report: ProviderReport) -> tuple[BatchStatus, str | None, str | None]:
    """Status, code and reason, once a report comes in for a batch whose max age may have passed."""
    said = report.status, report.failure_code, report.failure_reason
    if batch.failure_code != MAX_AGE_EXCEEDED or report.status is BatchStatus.ENDED:
        return said
    if report.status is not BatchStatus.CANCELED:
        return report.status, batch.failure_code, batch.failure_reason
    if batch.cancel_requested_at is not None:
        return said
    # We asked for the cancel because the batch was too old: that is why it failed, and nobody canceled it.
    return BatchStatus.FAILED, batch.failure_code, batch.failure_reason


async def insert_batch(connection: AsyncConnection, new: NewBatch) -> bool:
    """Add the row of a `pending` batch, in the caller's transaction; false where there is one of this id already."""
    statement = insert(batches).values(**new_values(new), max_age=new.schedule.max_age)
    # Waits for a transaction that inserts the same id, and learns how it ended.
    statement = statement.on_conflict_do_nothing(index_elements=["id"])
    return (await connection.execute(statement.returning(batches.c.id))).one_or_none() is not None


# Made once: to make a statement of so many columns takes as long as to have it answered.
_ONE = select(batches).where(batches.c.id == bindparam("batch_id"))
# "No key" leaves others free to insert rows that refer to the batch, as a handler's own tables may.
_ONE_LOCKED = _ONE.with_for_update(key_share=True)


async def read_batch(connection: AsyncConnection, batch_id: UUID) -> Batch:
    """Read a batch.

    Raises:
        UnknownBatchError: there is no such batch.
    """
    return _known(batch_id, await connection.execute(_ONE, {"batch_id": batch_id}))


async def insert_anew(connection: AsyncConnection, new: NewBatch) -> bool:
    """Add the row of a batch that has a key. One of this id that was never sealed is made anew, empty: whoever filled
    it died over it, or is told by its token that it came too late. False where there is a sealed one: it is left alone.
    """
    while not await insert_batch(connection, new):
        if not await cleared(connection, batches, new.id):
            return False
    return True


async def cleared(connection: AsyncConnection, table: Table, row_id: UUID) -> bool:
    """Delete a batch or campaign that has a key and was never sealed; false where it was."""
    # Waits for whoever is adding entries or sealing it right now, or has just made it anew.
    query = select(table.c.sealed_at).where(table.c.id == row_id).with_for_update(key_share=True)
    row = (await connection.execute(query)).one_or_none()
    if row is not None and row.sealed_at is not None:
        return False
    await connection.execute(delete(table).where(table.c.id == row_id, table.c.sealed_at.is_(None)))
    return True


async def lock_batch(connection: AsyncConnection, batch_id: UUID) -> Batch:
    """Read a batch and keep others from changing it until the transaction ends.

    Raises:
        UnknownBatchError: there is no such batch.
    """
    return _known(batch_id, await connection.execute(_ONE_LOCKED, {"batch_id": batch_id}))


def _known(batch_id: UUID, found: CursorResult[Any]) -> Batch:
    row = found.one_or_none()
    if row is None:
        raise UnknownBatchError(batch_id)
    return batch_of(row)


async def check_filler(connection: AsyncConnection, batch_id: UUID, token: UUID | None) -> None:
    """Make sure that nobody else has begun to fill the locked batch anew; without a token anybody may fill it.

    Raises:
        BatchTakenOverError: somebody has.
    """
    if token is None:
        return
    query = select(batches.c.filling_token).where(batches.c.id == batch_id)
    if (await connection.execute(query)).scalar_one() != token:
        raise BatchTakenOverError(batch_id)


async def _check_campaign_is_sealed(connection: AsyncConnection, batch: Batch) -> None:
    """Before that, nobody has held the campaign against its `max_cost`, and whoever has its key may fill it anew.

    Raises:
        OfCampaignError: the batch was started by itself, by some client of Temporal's.
    """
    sealed = select(campaigns.c.id).where(campaigns.c.id == batch.campaign_id, campaigns.c.sealed_at.is_not(None))
    if batch.campaign_id is not None and (await connection.execute(sealed)).one_or_none() is None:
        raise OfCampaignError(batch.id, batch.campaign_id)


async def write_report(connection: AsyncConnection, batch_id: UUID, report: ProviderReport) -> Batch:
    """Write what the provider said, in the caller's transaction, unless the batch is terminal already, or was sent back
    and is another one at the provider by now: a poll that was slow must not end what it did not look at. Returns what
    holds now.
    """
    batch = await lock_batch(connection, batch_id)
    if batch.status.is_terminal or batch.provider_batch_id != report.provider_batch_id:
        return batch
    status, code, reason = _settled(batch, report)
    written = await connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            status=status.value,
            provider_details=dict(report.details),
            progress_total=report.progress.total,
            progress_done=report.progress.done,
            progress_failed=report.progress.failed,
            failure_code=code,
            failure_reason=reason,
            ended_at=func.now() if status.is_terminal else None,
        )
        .returning(batches)
    )
    return batch_of(written.one())


class BatchStore(Troubled):
    """Batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, batches)

    async def create(self, new: NewBatch) -> Batch:
        """Add a `pending` batch without entries."""
        async with self._engine.begin() as connection:
            await insert_batch(connection, new)
            return await lock_batch(connection, new.id)

    async def create_by_key(self, new: NewBatch) -> Batch:
        """Add a `pending` batch without entries, or return the sealed one of this id."""
        async with self._engine.begin() as connection:
            await insert_anew(connection, new)
            return await lock_batch(connection, new.id)

    async def get(self, batch_id: UUID) -> Batch:
        """Read a batch.

        Raises:
            UnknownBatchError: there is no such batch.
        """
        async with self._autocommit.connect() as connection:
            return await read_batch(connection, batch_id)

    async def discard(self, batch_id: UUID, *, filling_token: UUID | None = None) -> bool:
        """Delete a batch that was not handed over, with its entries; false where it was, where somebody else has made
        it anew by its key, or where there is none.
        """
        filler = batches.c.filling_token.is_not_distinct_from(filling_token)
        async with self._engine.begin() as connection:
            deleted = await connection.execute(
                delete(batches).where(batches.c.id == batch_id, batches.c.sealed_at.is_(None), filler)
            )
        return deleted.rowcount == 1

    async def seal(
        self, batch_id: UUID, *, entry_count: int | None = None, filling_token: UUID | None = None
    ) -> tuple[Batch, bool]:
        """Close the batch to further entries; also says whether this call was the one that closed it.

        Args:
            batch_id: which batch.
            entry_count: leave it open, should it have come to hold more entries than these by now.
            filling_token: of whoever fills it, where it was created by a key.

        Raises:
            BatchTakenOverError: somebody else fills it anew.
            EmptyBatchError: it has no entries.
            OfCampaignError: its campaign was not submitted.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.sealed_at is not None:
                return batch, False
            await _check_campaign_is_sealed(connection, batch)
            await check_filler(connection, batch_id, filling_token)
            if batch.entry_count == 0:
                raise EmptyBatchError(batch_id)
            if entry_count not in {None, batch.entry_count}:
                return batch, False
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(sealed_at=func.now()))
            return await lock_batch(connection, batch_id), True

    async def claim(self, batch_id: UUID, workflow_id: str) -> Batch:
        """Give the batch to one workflow for good; asking again with the same id changes nothing.

        Raises:
            BatchClosedError: another workflow runs it.
            EmptyBatchError: it has no entries.
        """
        if (await self.get(batch_id)).sealed_at is None:
            await self.seal(batch_id)
        claim = (
            update(batches)
            .where(batches.c.id == batch_id, func.coalesce(batches.c.workflow_id, workflow_id) == workflow_id)
            .values(workflow_id=workflow_id)
            .returning(batches)
        )
        async with self._autocommit.connect() as connection:
            row = (await connection.execute(claim)).one_or_none()
        if row is None:
            raise BatchClosedError(batch_id, f"start workflow {workflow_id} for")
        return batch_of(row)

    async def record_report(self, batch_id: UUID, report: ProviderReport) -> Batch:
        """Write what the provider said, unless the batch is terminal already, and return what holds now."""
        async with self._engine.begin() as connection:
            return await write_report(connection, batch_id, report)

    async def give_up(self, batch_id: UUID, reason: str) -> Batch:
        """Max age has passed; note that the batch has failed, while the provider may still bring it to an end."""
        async with self._engine.begin() as connection:
            await connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.status.not_in(TERMINAL))
                .values(failure_code=MAX_AGE_EXCEEDED, failure_reason=reason)
            )
            return await lock_batch(connection, batch_id)

    async def close(self, batch_id: UUID, status: BatchStatus, *, code: str, reason: str, seal: bool = False) -> Batch:
        """End the batch from our side, unless it is terminal already, and return what holds now; with `seal` also for
        whoever would go on filling it, or would make it anew by its key.
        """
        assert status.is_terminal
        values: dict[str, Any] = {"status": status.value, "failure_code": code, "failure_reason": reason}
        values["ended_at"] = func.now()
        if seal:
            values["sealed_at"] = func.coalesce(batches.c.sealed_at, func.now())
        async with self._engine.begin() as connection:
            await connection.execute(
                update(batches).where(batches.c.id == batch_id, batches.c.status.not_in(TERMINAL)).values(values)
            )
            return await lock_batch(connection, batch_id)

    async def unfinished(self) -> list[Batch]:
        """Batches that were submitted and whose handler has not run: each should have a running workflow."""
        query = (
            select(batches)
            .where(batches.c.sealed_at.is_not(None), batches.c.handler_dispatched_at.is_(None))
            .order_by(batches.c.created_at)
        )
        async with self._engine.connect() as connection:
            return [batch_of(row) for row in await connection.execute(query)]

    async def unsealed(self) -> list[Batch]:
        """Batches that nobody has submitted, as far as this database knows."""
        query = select(batches).where(batches.c.sealed_at.is_(None), batches.c.status == BatchStatus.PENDING.value)
        async with self._engine.connect() as connection:
            return [batch_of(row) for row in await connection.execute(query.order_by(batches.c.created_at))]

    async def known(self, batch_ids: Collection[UUID]) -> set[UUID]:
        """Those of them that there are."""
        query = select(batches.c.id).where(batches.c.id.in_(batch_ids))
        async with self._engine.connect() as connection:
            return set((await connection.execute(query)).scalars())

    async def request_cancel(self, batch_id: UUID) -> Batch:
        """Note that somebody wants the batch canceled. Carrying it out is the workflow's.

        Raises:
            CancelRefusedError: it was never submitted, or it is over.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.sealed_at is None:
                raise CancelRefusedError(batch_id, "it was never submitted, so there is nothing to cancel")
            if batch.status.is_terminal:
                raise CancelRefusedError(batch_id, f"it is over, with status {batch.status.value}")
            wanted = case((batches.c.cancel_requested_at.is_(None), func.now()), else_=batches.c.cancel_requested_at)
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(cancel_requested_at=wanted))
            return await lock_batch(connection, batch_id)
