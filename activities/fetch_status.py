"""One poll."""

import logging

from temporalio import activity

from activities.failures import translated
from activities.reports import poll_report
from activities.services import Services
from overnight.contracts import BatchRef, PollReport

logger = logging.getLogger(__name__)


class PollActivities:
    """Looking at the provider."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="fetch_status")
    @translated()
    async def fetch_status(self, request: BatchRef) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.status.is_terminal or batch.provider_batch_id is None:
            return poll_report(batch)
        report = await self._services.provider(batch.provider).fetch(batch.provider_batch_id)
        logger.info("batch %s: %s says %s", batch.id, batch.provider, report.status_word)
        return poll_report(await self._store.batches.record_report(batch.id, report))
