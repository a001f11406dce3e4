"""Ingest: result lines into Postgres. Hydrate: responses into outputs. Both go on where a dead attempt stopped."""

import logging

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeating
from activities.services import Services
from overnight.batches import Batch, Outcome
from overnight.contracts import BatchRef, HydrateReport, IngestReport
from overnight.costs import price_version
from overnight.hydrating import verdict_of
from overnight.ingesting import Sorter
from overnight.providers import provider_facts

logger = logging.getLogger(__name__)


class IngestActivities:
    """From the provider's result files to rows."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="ingest_results")
    @translated()
    async def ingest_results(self, request: BatchRef) -> IngestReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.ingested_at is None:
            if batch.provider_batch_id is not None:
                await self._ingest(batch, batch.provider_batch_id)
            await self._store.results.finish(batch.id, price_version=price_version())
        return await self._report(batch)

    async def _ingest(self, batch: Batch, provider_batch_id: str) -> None:
        provider = self._services.provider(batch.provider)
        # Result files can appear a moment after the status that promised them, so the last word is asked for.
        report = await provider.fetch(provider_batch_id)
        sorter = await self._sorter(batch)
        position = await self._store.results.position(batch.id)
        progress = {"entries": len(sorter.seen), "of": batch.entry_count}
        async with heartbeating(progress.copy):
            async for block in provider.results(report, position):
                await self._store.results.write(batch.id, sorter.sort(block, position))
                position, progress["entries"] = block.position, len(sorter.seen)
        logger.info("batch %s: %s of %s entries have a line", batch.id, len(sorter.seen), batch.entry_count)

    async def _sorter(self, batch: Batch) -> Sorter:
        return Sorter(
            batch=batch,
            facts=provider_facts(batch.provider),
            token=(await self._store.batches.submission(batch.id)).token,
            positions=await self._store.entries.positions(batch.id),
            seen=await self._store.results.seen(batch.id),
        )

    async def _report(self, batch: Batch) -> IngestReport:
        counts = await self._store.results.line_counts(batch.id)
        return IngestReport(
            lines=counts.accepted + counts.duplicate + counts.unknown + counts.malformed,
            accepted=counts.accepted,
            duplicates=counts.duplicate,
            unknown=counts.unknown,
            malformed=counts.malformed,
            without_line=counts.without_line,
        )


class HydrateActivities:
    """From responses to outputs, with the user's Tasks."""

    def __init__(self, services: Services) -> None:
        self._store = services.store

    @activity.defn(name="hydrate_results")
    @translated()
    async def hydrate_results(self, request: BatchRef) -> HydrateReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.hydrated_at is None:
            await self._hydrate(batch)
            batch = await self._store.outputs.finish(batch.id)
        return HydrateReport(outcomes=dict(batch.outcomes), cost=batch.cost.billed, list_cost=batch.cost.list_price)

    async def _hydrate(self, batch: Batch) -> None:
        facts = provider_facts(batch.provider)
        position = await self._store.outputs.hydrated_to(batch.id)
        progress = {"position": position, "of": batch.entry_count}
        async with heartbeating(progress.copy):
            async for page in self._store.outputs.pages(batch.id, after=position, outcomes=[Outcome.SUCCEEDED]):
                verdicts = [verdict_of(entry, facts, batch.endpoint) for entry in page if entry.task is not None]
                await self._store.outputs.write(batch.id, verdicts, before=position, after=page[-1].position)
                position = progress["position"] = page[-1].position
