"""Ingest: result lines into Postgres, from where a dead attempt stopped."""

import logging
from collections import Counter
from collections.abc import Container, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from http import HTTPStatus

from pydantic_core import from_json
from temporalio import activity

from activities.services import Services
from overnight.ahead import read_ahead
from overnight.batches import Batch
from overnight.contracts import BatchRef, IngestReport
from overnight.costs import Tariff, tariff
from overnight.errors import IncompleteResultsError, ProviderError, TransientProviderError
from overnight.fees import NO_FEES, Fees, version_with
from overnight.handling.failures import full, public, step
from overnight.handling.heartbeats import heartbeating
from overnight.ingesting import Positions, Sorter, numbered
from overnight.log_events import LogEvent
from overnight.metrics import LINES, count, count_results
from overnight.notices import RESULTS_LOST, Notice, NoticeKind
from overnight.positions import PositionSet
from overnight.providers import provider_facts
from overnight.providers.base import ProviderReport
from overnight.storage.batches import AMBIGUOUS_SUBMIT, FORGOTTEN, MAX_AGE_EXCEEDED
from overnight.storage.results import IngestedBlock
from overnight.texts import storable

logger = logging.getLogger(__name__)


# Providers keep results for 29 days or 30: nothing can be there after that, whatever key asks.
_RESULTS_KEPT = timedelta(days=31)
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})

# Closed here without a provider's id, and maybe run there.
_UNSEEN = frozenset({AMBIGUOUS_SUBMIT, FORGOTTEN})


def _is_final(batch: Batch, error: ProviderError, age: timedelta, *, readable: bool) -> bool:
    """Whether results that cannot be had now never will be.

    A "not found" proves little: a key of another project gets it for everything, so it counts only where the same key
    can read the batch itself. And it is given until max age to heal, as everything else at the provider is.
    """
    return age > _RESULTS_KEPT or (readable and error.status in _GONE and batch.schedule.is_over(age))


def _count_lines(batch: Batch, block: IngestedBlock) -> None:
    count(LINES, block.accepted, provider=batch.provider, kind="accepted")
    for kind, number in Counter(stray.kind for stray in block.strays).items():
        count(LINES, number, provider=batch.provider, kind=kind)


class IngestActivities:
    """From the provider's result files to rows."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="ingest_results")
    @step
    async def ingest_results(self, request: BatchRef) -> IngestReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.ingested_at is None:
            is_all = await self._ingest_what_there_is(batch)
            tariff, fees = self._tariff(batch), self._fees(batch)
            await self._store.results.finish(
                batch.id,
                price_version=version_with(tariff.version, fees),
                is_all=is_all,
                is_priced=tariff.is_known,
            )
            count_results(await self._store.batches.get(batch.id))
        return await self._report(batch)

    async def _ingest_what_there_is(self, batch: Batch) -> bool:
        """Says whether that is all that the provider can have billed."""
        if batch.provider_batch_id is None:
            is_all = batch.failure_code not in _UNSEEN
        else:
            is_all = await self._ingest_unless_lost(batch, batch.provider_batch_id)
        return is_all and not await self._store.submissions.had_orphans(batch.id)

    async def _ingest_unless_lost(self, batch: Batch, provider_batch_id: str) -> bool:
        report: ProviderReport | None = None
        try:
            # Result files can appear a moment after the status that promised them, so the last word is asked for.
            report = await self._services.provider(batch.provider).fetch(provider_batch_id)
            if report.status.is_terminal:
                return await self._ingest(batch, report)
            if batch.failure_code != MAX_AGE_EXCEEDED:
                text = (
                    f"a batch that was {batch.status.value} is {report.status_word[:50]!r} again; it is asked once more"
                )
                raise TransientProviderError(batch.provider, "read results", text)
        except ProviderError as error:
            if not _is_final(batch, error, await self._store.results.age(batch.id), readable=report is not None):
                raise
            await self._give_up_on_results(batch, error)
        return False

    async def _give_up_on_results(self, batch: Batch, error: ProviderError) -> None:
        text = f"The results that were not read are lost; their entries have no answer. {public(error)}"
        logger.error("batch %s: %s", batch.id, text, extra={"event": LogEvent.RESULTS_LOST})
        await self._store.batches.clear_trouble(batch.id)  # or the step's success would be told as a recovery
        await self._store.results.give_up(batch.id)
        await self._store.batches.record_error(batch.id, storable(f"Results are lost. {full(error)}"[:4000]))
        await self._services.notifiers.notify(
            Notice(kind=NoticeKind.ATTENTION, batch_id=batch.id, code=RESULTS_LOST, text=text)
        )

    async def _ingest(self, batch: Batch, report: ProviderReport) -> bool:
        """Read all lines there are. The rest is waited for, and in the end let go: some providers count lines that they
        never give. Where no entry is without its line, no rest matters. Says whether nothing was let go.
        """
        was_lost = batch.results_lost_at is not None  # by an attempt that died before it had finished
        try:
            await self._read(batch, report)
        except IncompleteResultsError as error:
            came = await self._store.results.line_counts(batch.id)
            if came.accepted < batch.entry_count:
                if await self._may_still_come(batch, is_empty=report.line_count > 0 and came.distinct == 0):
                    raise
                # Told before what there is of the rest is taken: behind that, nothing shows that something was lost.
                await self._give_up_on_results(batch, error)
                was_lost = True
            await self._read(batch, report, as_is=True)
        return not was_lost

    async def _may_still_come(self, batch: Batch, *, is_empty: bool) -> bool:
        """Where nothing came at all, it is waited for as patiently as for results that are not found."""
        waited = await self._store.results.awaited(batch.id)
        if waited < self._services.settings.results_settle:
            return True
        return is_empty and not batch.schedule.is_over(await self._store.results.age(batch.id))

    async def _read(self, batch: Batch, report: ProviderReport, *, as_is: bool = False) -> None:
        sorter = await self._sorter(batch)
        position = await self._store.results.position(batch.id)
        # While Postgres takes in one block, the next one is sorted and the one after it is downloaded.
        lines = read_ahead(self._services.provider(batch.provider).results(report, position, as_is=as_is))
        progress = {"entries": len(sorter.seen), "of": batch.entry_count}
        try:
            blocks = read_ahead(sorter.sorted(lines, position))
            async with heartbeating(progress.copy), aclosing(lines), aclosing(blocks):
                async for block in blocks:
                    if not as_is and block.before.source != block.after.source:
                        # Behind the first line of the next file nobody reads on in the one before it.
                        await self._check_count(batch, report.lines_before.get(block.after.source, 0))
                    await self._store.results.write(batch.id, block)
                    _count_lines(batch, block)
                    position, progress["entries"] = block.after, len(sorter.seen)
            if not as_is and len(sorter.seen) < report.line_count:
                await self._check_count(batch, report.line_count)
        except ProviderError:  # what comes behind it may be given up, and what came must be on the disk then
            await self._store.results.flush(batch.id, position)
            raise
        await self._store.results.flush(batch.id, position)
        logger.info(
            "batch %s: %s of %s entries have a line",
            batch.id,
            len(sorter.seen),
            batch.entry_count,
            extra={"event": LogEvent.BATCH_INGESTED},
        )

    async def _check_count(self, batch: Batch, counted: int) -> None:
        """A file that ends cleanly may have been read before all of it was there."""
        came = (await self._store.results.line_counts(batch.id)).distinct if counted else 0
        if came < min(counted, batch.entry_count):
            text = f"{counted} entries are said to be done, and {came} have a line"
            raise IncompleteResultsError(batch.provider, text)

    async def _sorter(self, batch: Batch) -> Sorter:
        return Sorter(
            batch_id=batch.id,
            facts=provider_facts(batch.provider),
            token=(await self._store.submissions.current(batch.id)).token,
            tariff=self._tariff(batch),
            fees=self._fees(batch),
            positions=await self._positions(batch),
            seen=await self._store.results.seen(batch.id),
            untold=await self._untold(batch),
        )

    async def _untold(self, batch: Batch) -> Mapping[str, Container[int]]:
        tool = provider_facts(batch.provider).untold_tool(model=batch.model, endpoint=batch.endpoint)
        if tool is None:
            return {}
        if tool.always:
            return {tool.name: range(1, batch.entry_count + 1)}
        requests = self._store.entries.containing(batch.id, f'"{tool.name}"')
        asking = [position async for position, request in requests if tool.may_run(from_json(request))]
        return {tool.name: PositionSet(asking)} if asking else {}

    async def _positions(self, batch: Batch) -> Positions:
        label = await self._store.entries.label(batch.id)
        return partial(self._store.entries.positions, batch.id) if label is None else numbered(label, batch.entry_count)

    def _tariff(self, batch: Batch) -> Tariff:
        overrides = self._services.settings.prices
        return tariff(batch.provider, batch.model, at=batch.submitted_at, overrides=overrides)

    def _fees(self, batch: Batch) -> Fees:
        return self._services.settings.tool_fees.get(batch.provider, NO_FEES)

    async def _report(self, batch: Batch) -> IngestReport:
        counts = await self._store.results.line_counts(batch.id)
        return IngestReport(
            lines=counts.accepted + counts.duplicate + counts.unknown + counts.malformed,
            accepted=counts.accepted,
            duplicates=counts.duplicate,
            unknown=counts.unknown,
            malformed=counts.malformed,
            without_line=counts.without_line,
            results_lost=(await self._store.batches.get(batch.id)).results_lost_at is not None,
        )
