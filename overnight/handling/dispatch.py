"""Hand a hydrated batch to its handler, once."""

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any
from uuid import UUID

from temporalio import activity

from overnight.batches import Batch, Entry, Outcome
from overnight.client import Overnight
from overnight.contracts import DispatchReport, DispatchRequest
from overnight.errors import HandlerFailedError
from overnight.handlers import BatchHandler, handlers
from overnight.handling.failures import step, where
from overnight.handling.heartbeats import heartbeating
from overnight.handling.services import Services
from overnight.reading import entries
from overnight.storage.dispatches import AlreadyDispatchedError, Connection, Dispatch
from overnight.tasks import Task

logger = logging.getLogger(__name__)


class _Dispatched:
    """What the handler stands on."""

    def __init__(self, services: Services, batch: Batch, dispatch: Dispatch) -> None:
        self._store, self._dispatch = services.store, dispatch
        self._settings, self._batch = services.settings, batch

    @cached_property
    def overnight(self) -> Overnight:
        """One per run: the batches that it creates are counted."""
        return Overnight(settings=self._settings, store=self._store, temporal=activity.client(), parent=self._batch)

    def entries(
        self, batch_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return entries(self._store, batch_id, task, outcomes)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self._dispatch.transaction()


class DispatchActivities:
    """Running the user's code."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="dispatch_handler")
    @step
    async def dispatch_handler(self, request: DispatchRequest) -> DispatchReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.handler_dispatched_at is not None:
            return DispatchReport(ran=False)
        try:
            return DispatchReport(ran=await self._attempt(batch, skip=request.skip))
        except AlreadyDispatchedError:
            logger.info("batch %s: its handler has run already", batch.id)
            return DispatchReport(ran=False)

    async def _attempt(self, batch: Batch, *, skip: bool) -> bool:
        handler = handlers.resolve(batch.handler) if batch.handler is not None and not skip else None
        async with heartbeating(), self._store.dispatches.attempt(batch.id) as dispatch:
            if handler is not None:
                await _run(handler(batch, _Dispatched(self._services, batch, dispatch)))
            await dispatch.commit()
        return handler is not None


async def _run(handler: BatchHandler) -> None:
    try:
        await handler.handle()
    except AlreadyDispatchedError:
        raise
    except Exception as error:
        raise HandlerFailedError(type(handler).__name__, where(error)) from error
