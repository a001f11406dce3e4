"""Looking for batches: which of them are wanted, page by page, and by the beginning of an id."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, and_, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import ANY_BATCH, Batch, BatchFilter
from overnight.errors import AmbiguousBatchError, UnknownBatchError
from overnight.storage.batches import batch_of
from overnight.storage.tables import attempts, batches, submissions

_HEX_DIGITS = 32
_CANDIDATES_SHOWN = 5

# A submit seals first and starts the workflow then; a batch that has none so long after was left in between.
_START_TAKES = timedelta(minutes=2)


def conditions(wanted: BatchFilter) -> list[ColumnElement[bool]]:
    """What a batch must meet to be among the wanted."""
    found: list[ColumnElement[bool]] = []
    if wanted.statuses:
        found.append(batches.c.status.in_([status.value for status in wanted.statuses]))
    equal = {name: getattr(wanted, name) for name in ("provider", "model", "handler")}
    found += [batches.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.created_since is not None:
        found.append(batches.c.created_at >= wanted.created_since)
    if wanted.parent is not None:
        found.append(batches.c.parent_batch_id == wanted.parent)
    if wanted.unfinished:
        found.append(unfinished(batches))
    if wanted.needs_attention:
        found.append(or_(and_(unfinished(batches), _stuck()), _forfeited()))
    return found


def unfinished(table: Table) -> ColumnElement[bool]:
    """Handed over, and the handler has not run yet: of batches, or of campaigns."""
    return and_(table.c.sealed_at.is_not(None), table.c.handler_dispatched_at.is_(None))


def left(table: Table) -> ColumnElement[bool]:
    """Handed over, and no workflow has begun to look after it."""
    return and_(table.c.workflow_id.is_(None), table.c.sealed_at < func.now() - _START_TAKES)


def _forfeited() -> ColumnElement[bool]:
    """Results that are lost are somebody's affair until a retry or a further round asks again, or nobody wants them."""
    again = batches.alias("again")
    retried = exists().where(again.c.parent_batch_id == batches.c.id)
    in_a_round = exists().where(attempts.c.earlier_batch_id == batches.c.id)
    return and_(batches.c.results_lost_at.is_not(None), batches.c.pruned_at.is_(None), ~retried, ~in_a_round)


def _stuck() -> ColumnElement[bool]:
    in_doubt = exists().where(
        submissions.c.batch_id == batches.c.id,
        submissions.c.doubted_at.is_not(None),
        submissions.c.accepted_at.is_(None),
        submissions.c.abandoned_at.is_(None),
    )
    return or_(batches.c.trouble_code.is_not(None), in_doubt, left(batches))


class BatchListing:
    """Batches, as lists of them are wanted."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(
        self, wanted: BatchFilter = ANY_BATCH, *, limit: int | None = None, before: UUID | None = None
    ) -> list[Batch]:
        """The newest first.

        Args:
            wanted: which ones.
            limit: how many at most.
            before: only those that are older than this batch: the last one of the page before.
        """
        query = select(batches).where(*conditions(wanted)).order_by(batches.c.created_at.desc(), batches.c.id.desc())
        if before is not None:
            last = select(batches.c.created_at, batches.c.id).where(batches.c.id == before).scalar_subquery()
            query = query.where(tuple_(batches.c.created_at, batches.c.id) < last)
        async with self._engine.connect() as connection:
            return [batch_of(row) for row in await connection.execute(query.limit(limit))]

    async def of(self, ids: Collection[UUID]) -> list[Batch]:
        """These, in the order of their creation; ids that no batch has are left out."""
        query = select(batches).where(batches.c.id.in_(ids)).order_by(batches.c.created_at, batches.c.id)
        async with self._engine.connect() as connection:
            return [batch_of(row) for row in await connection.execute(query)]

    async def resolve(self, prefix: str) -> UUID:
        """The id that begins with these hexadecimal digits; hyphens do not count.

        Raises:
            UnknownBatchError: none does.
            AmbiguousBatchError: several do.
        """
        digits = prefix.replace("-", "").lower()
        first, last = (UUID(digits.ljust(_HEX_DIGITS, fill)) for fill in "0f")
        query: Any = select(batches.c.id).where(batches.c.id.between(first, last)).order_by(batches.c.id)
        async with self._engine.connect() as connection:
            found = list((await connection.execute(query.limit(_CANDIDATES_SHOWN))).scalars())
        if not found:
            raise UnknownBatchError(prefix)
        if len(found) > 1:
            raise AmbiguousBatchError(prefix, found)
        return UUID(str(found[0]))
