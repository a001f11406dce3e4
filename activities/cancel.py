"""Cancel, because somebody asked; expire, because max age has passed."""

import logging

from temporalio import activity

from activities.failures import translated
from activities.reports import poll_report
from activities.services import Services
from overnight.batches import Batch, BatchStatus
from overnight.contracts import BatchRef, ExpireRequest, PollReport
from overnight.errors import AmbiguousProviderError, ConfigurationError, ProviderError
from overnight.providers.base import Undecided
from overnight.storage.batches import MAX_AGE_EXCEEDED

logger = logging.getLogger(__name__)


class CancelActivities:
    """Ends that are not the provider's idea."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="cancel_batch")
    @translated()
    async def cancel_batch(self, request: BatchRef) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.status.is_terminal:
            return poll_report(batch)
        await self._store.batches.request_cancel(batch.id)
        provider_batch_id = batch.provider_batch_id or await self._adopt(batch)
        if provider_batch_id is None:
            return poll_report(await self._cancel_here(batch))
        report = await self._services.provider(batch.provider).cancel(provider_batch_id)
        return poll_report(await self._store.batches.record_report(batch.id, report))

    async def _adopt(self, batch: Batch) -> str | None:
        """The provider batch that an unanswered create may have made; None is said only when there is none."""
        submission = await self._store.batches.submission(batch.id)
        if submission.started_at is None:
            return None
        claimed = await self._store.batches.claimed(batch.provider)
        found = await self._services.provider(batch.provider).find(submission, claimed=claimed)
        if isinstance(found, Undecided) or found is None:
            raise AmbiguousProviderError(
                batch.provider, "cancel", "It is not certain yet whether the batch was created; the search goes on."
            )
        accepted = await self._store.batches.record_acceptance(batch.id, found)
        return accepted.provider_batch_id

    async def _cancel_here(self, batch: Batch) -> Batch:
        return await self._store.batches.close(
            batch.id, BatchStatus.CANCELED, code="canceled", reason="Canceled before it was sent; nothing was paid."
        )

    @activity.defn(name="expire_batch")
    @translated()
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
            logger.warning("batch %s: the provider would not cancel it after max age: %s", batch.id, error)
            return batch
        return await self._store.batches.record_report(batch.id, report)
