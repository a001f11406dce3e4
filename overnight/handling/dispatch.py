"""Hand a hydrated batch to its handler, once."""

import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any
from uuid import UUID

from temporalio import activity

from overnight.batches import Batch, Entry, Outcome
from overnight.campaigns import Campaign
from overnight.client import Overnight
from overnight.contracts import DispatchReport, DispatchRequest
from overnight.errors import HandlerFailedError
from overnight.handlers import Handler, batch_handlers, campaign_handlers
from overnight.handling.failures import step, where
from overnight.handling.heartbeats import heartbeating
from overnight.handling.services import Services
from overnight.log_events import LogEvent
from overnight.reading import Reader, campaign_entries, entries
from overnight.storage.dispatches import AlreadyDispatchedError, Connection, Dispatch
from overnight.tasks import Task

logger = logging.getLogger(__name__)


class _Dispatched:
    """What the handler stands on."""

    def __init__(self, services: Services, dispatch: Dispatch, read: Reader, *, parent: Batch | Campaign) -> None:
        self._store, self._dispatch, self._read = services.store, dispatch, read
        self._settings, self._parent = services.settings, parent

    @cached_property
    def overnight(self) -> Overnight:
        """One per run: the batches that it creates are counted."""
        return Overnight(settings=self._settings, store=self._store, temporal=activity.client(), parent=self._parent)

    def entries(
        self, subject_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return self._read(self._store, subject_id, task, outcomes)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self._dispatch.transaction()


class DispatchActivities:
    """Running the user's code."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="dispatch_handler")
    @step
    async def dispatch_handler(self, request: DispatchRequest) -> DispatchReport:
        if request.campaign_id is not None:
            return await self._dispatch_campaign(request.campaign_id, skip=request.skip)
        assert request.batch_id is not None
        batch = await self._store.batches.get(request.batch_id)
        if batch.handler_dispatched_at is not None:
            return DispatchReport(ran=False)
        cls = batch_handlers(batch.handler) if batch.handler is not None and not request.skip else None
        return await self._attempt(
            self._store.dispatches.attempt(batch.id),
            lambda dispatch: cls(batch, self._dispatched(batch, dispatch)) if cls else None,
        )

    async def _dispatch_campaign(self, campaign_id: UUID, *, skip: bool) -> DispatchReport:
        campaign = await self._store.campaigns.get(campaign_id)
        if campaign.handler_dispatched_at is not None:
            return DispatchReport(ran=False)
        cls = campaign_handlers(campaign.handler) if campaign.handler is not None and not skip else None
        return await self._attempt(
            self._store.dispatches.campaign_attempt(campaign.id),
            lambda dispatch: cls(campaign, self._dispatched(campaign, dispatch)) if cls else None,
        )

    def _dispatched(self, subject: Batch | Campaign, dispatch: Dispatch) -> _Dispatched:
        read = entries if isinstance(subject, Batch) else campaign_entries
        return _Dispatched(self._services, dispatch, read, parent=subject)

    async def _attempt(
        self, attempt: AbstractAsyncContextManager[Dispatch], make: Callable[[Dispatch], Handler | None]
    ) -> DispatchReport:
        try:
            async with heartbeating(), attempt as dispatch:
                handler = make(dispatch)
                if handler is not None:
                    await _run(handler)
                await dispatch.commit()
        except AlreadyDispatchedError as error:
            logger.info("%s", error, extra={"event": LogEvent.HANDLER_ALREADY_RAN})
            return DispatchReport(ran=False)
        if handler is not None:
            logger.info("%s ran", type(handler).__name__, extra={"event": LogEvent.HANDLER_RAN})
        return DispatchReport(ran=handler is not None)


async def _run(handler: Handler) -> None:
    try:
        await handler.handle()
    except AlreadyDispatchedError:
        raise
    except Exception as error:
        raise HandlerFailedError(type(handler).__name__, where(error)) from error
