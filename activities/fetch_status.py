"""One poll."""

import logging

from temporalio import activity

from activities.orphans import look_for_orphans
from activities.reports import poll_report
from activities.room import send_back
from activities.services import Services
from overnight.batches import Batch, BatchStatus
from overnight.contracts import PollReport, PollRequest
from overnight.errors import ProviderError
from overnight.handling.failures import step
from overnight.log_events import LogEvent
from overnight.metrics import POLLS, count
from overnight.providers.base import Provider, ProviderReport

logger = logging.getLogger(__name__)


class PollActivities:
    """Looking at the provider."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="fetch_status")
    @step
    async def fetch_status(self, request: PollRequest) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.status.is_terminal:
            return poll_report(batch)
        if batch.provider_batch_id is None:
            return await self._without_provider_batch(batch, request.provider_batch_id)
        provider = self._services.provider(batch.provider)
        report = await self._look(provider, batch.provider_batch_id)
        logger.info(
            "batch %s: %s says %s", batch.id, batch.provider, report.status_word, extra={"event": LogEvent.BATCH_POLLED}
        )
        if report.failure_code in provider.queue_full_codes:
            return await self._without_room(batch, report)
        batch = await self._store.batches.record_report(batch.id, report)
        await look_for_orphans(self._services, batch)
        return poll_report(batch)

    async def _look(self, provider: Provider, provider_batch_id: str) -> ProviderReport:
        try:
            report = await provider.fetch(provider_batch_id)
        except ProviderError as error:
            count(POLLS, provider=provider.name, result=type(error).__name__)
            raise
        count(POLLS, provider=provider.name, result=report.status.value)
        return report

    async def _without_provider_batch(self, batch: Batch, heard_of: str | None) -> PollReport:
        """Nothing was sent yet; or the batch was sent back, and the worker that did so died before it could say so."""
        resubmit = await self._store.submissions.was_sent_back(batch.id, heard_of)
        return poll_report(batch).model_copy(update={"resubmit": resubmit})

    async def _without_room(self, batch: Batch, report: ProviderReport) -> PollReport:
        """Nothing ran. The batch is to be submitted again, unless nobody waits for it any more."""
        batch = await self._store.batches.get(batch.id)
        if batch.cancel_requested_at is not None:
            reason = "Canceled before the provider had room for it; nothing was paid."
            return poll_report(
                await self._store.batches.close(batch.id, BatchStatus.CANCELED, code="canceled", reason=reason)
            )
        if batch.failure_code is not None:  # max age has passed
            return poll_report(await self._store.batches.record_report(batch.id, report))
        return await send_back(self._services, batch, report)
