"""Hydrate: responses into outputs, with the user's Tasks, from where a dead attempt stopped."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
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
from overnight.storage.answers import Answer, Verdict

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
        position = await self._store.outputs.hydrated_to(batch.id)
        progress = {"position": position, "of": batch.entry_count}
        # While Postgres takes in one page's verdicts, the next one is judged and the one after it is read.
        answers = read_ahead(self._store.outputs.answers(batch.id, after=position))
        judged = read_ahead(_judged(batch, answers))
        async with heartbeating(progress.copy), aclosing(answers), aclosing(judged):
            async for verdicts, after in judged:
                await self._store.outputs.write(batch.id, verdicts, before=position, after=after)
                position = progress["position"] = after
        await self._store.outputs.flush(batch.id, position)


async def _judged(
    batch: Batch, pages: AsyncIterator[Sequence[Answer]]
) -> AsyncGenerator[tuple[Sequence[Verdict], int], None]:
    """Each page's verdicts, and the position behind it."""
    facts = provider_facts(batch.provider)
    async for page in pages:
        yield await verdicts_of(page, facts, batch.endpoint, batch.id), page[-1].position
