"""Hydrate: responses into outputs, with the user's Tasks, from where a dead attempt stopped."""

import logging
from contextlib import aclosing

from temporalio import activity

from overnight.ahead import read_ahead
from overnight.batches import Batch
from overnight.contracts import BatchRef, HydrateReport
from overnight.handling.failures import step
from overnight.handling.heartbeats import heartbeating
from overnight.handling.services import Services
from overnight.hydrating import verdicts_of
from overnight.log_events import LogEvent
from overnight.metrics import count_outcomes
from overnight.providers import provider_facts

logger = logging.getLogger(__name__)


class HydrateActivities:
    """From responses to outputs, with the user's Tasks."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="hydrate_results")
    @step
    async def hydrate_results(self, request: BatchRef) -> HydrateReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.hydrated_at is None:
            await self._hydrate(batch)
            batch = await self._store.outputs.finish(batch.id)
            count_outcomes(batch)
            counts = ", ".join(f"{number} {outcome.value}" for outcome, number in sorted(batch.outcomes.items()))
            logger.info("batch %s: %s", batch.id, counts, extra={"event": LogEvent.BATCH_HYDRATED})
        return HydrateReport(outcomes=dict(batch.outcomes), cost=batch.cost.billed, list_cost=batch.cost.list_price)

    async def _hydrate(self, batch: Batch) -> None:
        facts = provider_facts(batch.provider)
        position = await self._store.outputs.hydrated_to(batch.id)
        progress = {"position": position, "of": batch.entry_count}
        # While one page is being judged, the next one is read.
        answers = read_ahead(self._store.outputs.answers(batch.id, after=position))
        async with heartbeating(progress.copy), aclosing(answers) as pages:
            async for page in pages:
                verdicts = await verdicts_of(page, facts, batch.endpoint, batch.id)
                await self._store.outputs.write(batch.id, verdicts, before=position, after=page[-1].position)
                position = progress["position"] = page[-1].position
