"""Hand a hydrated batch to its handler, once."""

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from temporalio import activity

from activities.failures import translated, where
from activities.heartbeats import heartbeating
from activities.services import Services
from overnight.batches import Batch, Entry, Outcome
from overnight.contracts import BatchRef, DispatchReport
from overnight.handlers import handlers
from overnight.reading import entries
from overnight.storage.dispatches import AlreadyDispatchedError, Connection, Dispatch
from overnight.storage.store import Store
from overnight.tasks import Task
from overnight.texts import storable

logger = logging.getLogger(__name__)


class _Dispatched:
    """What the handler stands on."""

    def __init__(self, store: Store, dispatch: Dispatch) -> None:
        self._store, self._dispatch = store, dispatch

    def entries(
        self, batch_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return entries(self._store, batch_id, task, outcomes)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self._dispatch.transaction()


class DispatchActivities:
    """Running the user's code."""

    def __init__(self, services: Services) -> None:
        self._store, self._log_texts = services.store, services.settings.log_error_texts

    @activity.defn(name="dispatch_handler")
    @translated()
    async def dispatch_handler(self, request: BatchRef) -> DispatchReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.handler_dispatched_at is not None:
            return DispatchReport(ran=False)
        try:
            ran = await self._attempt(batch)
        except AlreadyDispatchedError:
            logger.info("batch %s: its handler has run already", batch.id)
            ran = False
        return DispatchReport(ran=ran)

    async def _attempt(self, batch: Batch) -> bool:
        cls = handlers.resolve(batch.handler) if batch.handler is not None else None
        try:
            async with heartbeating(), self._store.dispatches.attempt(batch.id) as dispatch:
                if cls is not None:
                    await cls(batch, _Dispatched(self._store, dispatch)).handle()
                await dispatch.commit()
        except AlreadyDispatchedError:
            raise
        except Exception as error:
            # Only now, behind the attempt: its transaction held the lock on the very row that is written here.
            await self._remember(batch, error)
            raise
        return cls is not None

    async def _remember(self, batch: Batch, error: Exception) -> None:
        logger.error(
            "batch %s: handler %s raised %s",
            batch.id,
            batch.handler,
            where(error),
            exc_info=error if self._log_texts else None,
        )
        await self._store.batches.record_error(batch.id, storable(f"{type(error).__name__}: {error}"[:4000]))
