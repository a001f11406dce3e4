"""A new batch of what another one did not get done, made inside the database: no entry leaves it."""

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Batch, Outcome
from overnight.errors import RetryRefusedError, UnknownBatchError
from overnight.storage.batches import NewBatch, batch_of, insert_anew
from overnight.storage.tables import attempts, batches, campaigns, entries, results

# A further round may; the campaign's handler runs when that is over, and may retry what is left.
_MAY_BE_ASKED_AGAIN = exists().where(campaigns.c.id == batches.c.campaign_id, campaigns.c.ended_at.is_(None))

_COPIED = ("batch_id", "position", "custom_id", "task", "fields", "request")


class RetryStore:
    """Retries of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def retry(
        self, batch_id: UUID, new_id: UUID, outcomes: Collection[Outcome], *, filling_token: UUID | None = None
    ) -> int:
        """Add a `pending` batch of the entries with these outcomes, and return how many there are.

        An entry that a child of the batch has already, with the same request, is left out: to retry twice must not
        pay twice. What failed in the child is the child's to retry. With a token, the id belongs to a key: a sealed
        batch of it is left alone, for it is this retry, made earlier; one that was not sealed is made anew.

        Raises:
            UnknownBatchError: there is no such batch.
            RetryRefusedError: it is not over, or nothing is left to be retried, or the id belongs to something else.
        """
        async with self._engine.begin() as connection:
            # No lock on the row: outcomes are final, and a handler that calls this holds that lock itself.
            await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(batch_id), 0))))
            parent = await _parent(connection, batch_id)
            if not await insert_anew(connection, replace(_like(parent, new_id), filling_token=filling_token)):
                await _check_is_retry_of(connection, batch_id, new_id)
                return 0
            count, size = await _copy(connection, parent.id, new_id, outcomes)
            if count == 0:
                raise RetryRefusedError(batch_id, await _why_none(connection, batch_id, outcomes))
            # The inputs are the parent's at most, and what is left of them is not worth another look at every request.
            sums = {"entry_count": count, "request_bytes": size, "input_count": parent.input_count}
            await connection.execute(update(batches).where(batches.c.id == new_id).values(sums))
        return count


async def _check_is_retry_of(connection: AsyncConnection, batch_id: UUID, made_earlier: UUID) -> None:
    """What is made by a key that something else has would be lost without a word."""
    query = select(batches.c.parent_batch_id).where(batches.c.id == made_earlier)
    if (await connection.execute(query)).scalar_one() != batch_id:
        reason = f"its key, or its number in the handler, belongs to batch {made_earlier}; give each retry its own key"
        raise RetryRefusedError(batch_id, reason)


async def _parent(connection: AsyncConnection, batch_id: UUID) -> Batch:
    query = select(batches, _MAY_BE_ASKED_AGAIN.label("may_be_asked_again")).where(batches.c.id == batch_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise UnknownBatchError(batch_id)
    parent = batch_of(row)
    if row.may_be_asked_again:
        reason = f"its campaign {parent.campaign_id} is not over, and may ask again itself; wait for it"
        raise RetryRefusedError(batch_id, reason)
    if parent.hydrated_at is None:
        raise RetryRefusedError(batch_id, f"it is not over, with status {parent.status.value}; wait for its outcomes")
    if parent.pruned_at is not None:
        raise RetryRefusedError(batch_id, f"its requests were deleted on {parent.pruned_at:%Y-%m-%d}")
    return parent


def _like(parent: Batch, new_id: UUID) -> NewBatch:
    """Everything that was chosen for the parent holds for its retry as well; a key, and a place in a campaign, was its
    own.
    """
    names = {field.name for field in fields(NewBatch)} - {"filling_token", "campaign_id", "number", "round"}
    chosen: dict[str, Any] = {name: getattr(parent, name) for name in names}
    return NewBatch(**(chosen | {"id": new_id, "parent_batch_id": parent.id}))


def _unsuccessful(batch_id: UUID, outcomes: Collection[Outcome]) -> Select[Any]:
    """The entries to be retried, as rows of the parent: what a round of its campaign asked again is that one's."""
    asked_again = attempts.c.earlier_batch_id == batch_id, attempts.c.earlier_position == entries.c.position
    return (
        select(entries)
        .join(results, (results.c.batch_id == entries.c.batch_id) & (results.c.position == entries.c.position))
        .where(
            entries.c.batch_id == batch_id,
            entries.c.request != "",  # it is, while pruning is under way
            results.c.outcome.in_([outcome.value for outcome in outcomes]),
            ~select(attempts.c.position).where(*asked_again).exists(),
        )
    )


def _takers(batch_id: UUID) -> Select[Any]:
    """The children of the batch that have the same entry."""
    child, copy = batches.alias("child"), entries.alias("copy")
    return select(child.c.id).where(
        child.c.parent_batch_id == batch_id,
        copy.c.batch_id == child.c.id,
        copy.c.custom_id == entries.c.custom_id,
        copy.c.request.in_([entries.c.request, ""]),  # pruned: nobody can tell any more, so it is not paid for again
    )


async def _copy(
    connection: AsyncConnection, batch_id: UUID, new_id: UUID, outcomes: Collection[Outcome]
) -> tuple[int, int]:
    """One statement, whatever their number; returns how many entries and bytes were copied."""
    found = _unsuccessful(batch_id, outcomes).where(~_takers(batch_id).exists()).subquery()
    position = func.row_number().over(order_by=found.c.position)
    rows = select(literal(new_id), position, found.c.custom_id, found.c.task, found.c.fields, found.c.request)
    size = func.octet_length(entries.c.custom_id) + func.octet_length(entries.c.request)
    copied = insert(entries).from_select(_COPIED, rows).returning(size.label("size")).cte("copied")
    sums = select(func.count(), func.coalesce(func.sum(copied.c.size), 0)).select_from(copied)
    count, total = (await connection.execute(sums)).one()
    return int(count), int(total)


async def _why_none(connection: AsyncConnection, batch_id: UUID, outcomes: Collection[Outcome]) -> str:
    found = _unsuccessful(batch_id, outcomes).with_only_columns(_takers(batch_id).limit(1).scalar_subquery())
    taker = (await connection.execute(found.limit(1))).scalar_one_or_none()
    if taker is not None:
        return f"batch {taker} retries its entries already; what fails there is retried from there"
    return f"none of its entries is {' or '.join(sorted(outcome.value for outcome in outcomes)) or 'wanted'}"
