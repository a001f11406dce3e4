"""Cancel, because somebody asked; expire, because max age has passed."""

import logging

from temporalio import activity

from activities.reports import poll_report
from activities.searching import certain
from activities.services import Services
from overnight.batches import Batch, BatchStatus
from overnight.contracts import BatchRef, ExpireRequest, PollReport
from overnight.errors import ConfigurationError, ProviderError
from overnight.handling.failures import step
from overnight.log_events import LogEvent
from overnight.storage.batches import MAX_AGE_EXCEEDED

logger = logging.getLogger(__name__)


class CancelActivities:
    """Ends that are not the provider's idea."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="cancel_batch")
    @step
    async def cancel_batch(self, request: BatchRef) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.status.is_terminal:
            return poll_report(batch)
        await self._store.batches.request_cancel(batch.id)
        if batch.provider_batch_id is None:
            batch = await self._settle(batch)
        if batch.provider_batch_id is None or batch.status.is_terminal:
            return poll_report(batch)
        report = await self._services.provider(batch.provider).cancel(batch.provider_batch_id)
        return poll_report(await self._store.batches.record_report(batch.id, report))

    async def _settle(self, batch: Batch) -> Batch:
        """Adopt the provider batch that an unanswered create made, or, when it certainly made none, cancel here."""
        async with self._store.submissions.alone(batch.id):
            # Asked again behind the lock: until now somebody could have been creating.
            batch = await self._store.batches.get(batch.id)
            if batch.provider_batch_id is not None or batch.status.is_terminal:
                return batch
            submission = await self._store.submissions.current(batch.id)
            if submission.started_at is not None:
                found = await certain(self._services, batch, submission)
                if found is not None:
                    return await self._store.submissions.accept(batch.id, found, number=submission.number)
                await self._store.submissions.abandon(batch.id)  # and looked for once more, when all is over
            reason = "Canceled before it was sent; nothing was paid."
            return await self._store.batches.close(batch.id, BatchStatus.CANCELED, code="canceled", reason=reason)

    @activity.defn(name="expire_batch")
    @step
    async def expire_batch(self, request: ExpireRequest) -> PollReport:
        reason = "The batch was not over when its max age had passed."
        batch = await self._store.batches.give_up(request.batch_id, reason)
        if request.final:
            batch = await self._store.batches.close(
                batch.id, BatchStatus.FAILED, code=MAX_AGE_EXCEEDED, reason=f"{reason} The provider did not end it."
            )
        elif batch.provider_batch_id is not None and not batch.status.is_terminal:
            batch = await self._ask_to_cancel(batch, batch.provider_batch_id)
        return poll_report(batch)

    async def _ask_to_cancel(self, batch: Batch, provider_batch_id: str) -> Batch:
        """A favour: the batch is closed here in the end, whether the provider hears us or not."""
        try:
            report = await self._services.provider(batch.provider).cancel(provider_batch_id)
        except (ProviderError, ConfigurationError) as error:
            logger.warning(
                "batch %s: the provider would not cancel it after max age: %s",
                batch.id,
                error.public,
                extra={"event": LogEvent.BATCH_CANCEL_REFUSED},
            )
            return batch
        return await self._store.batches.record_report(batch.id, report)
