"""Claim the batch, upload its entries, and create the provider batch: exactly one, whatever happens."""

import logging
from collections.abc import AsyncIterator, Sequence
from uuid import NAMESPACE_URL, UUID, uuid5

from temporalio import activity

from activities.reports import open_report, poll_report
from activities.room import send_back
from activities.searching import StillInDoubtError, certain
from activities.services import Services
from overnight.batches import Batch, BatchStatus, OnAmbiguousSubmit
from overnight.contracts import BatchRef, BatchSpec, OpenBatch, OpenRequest, PollReport
from overnight.errors import CostLimitError, PermanentProviderError, TransientProviderError
from overnight.estimates import seal_within_cost
from overnight.handling.failures import step, translated
from overnight.handling.heartbeats import heartbeating
from overnight.log_events import LogEvent
from overnight.providers.base import EntryLine, Provider, ProviderReport, Submission
from overnight.registering import registration
from overnight.storage.batches import AMBIGUOUS_SUBMIT

logger = logging.getLogger(__name__)

# Answers after which asking again can help nobody: the request itself is at fault.
_REJECTIONS = frozenset({400, 413, 422})


class SubmitActivities:
    """The steps up to the provider's acceptance."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="open_batch")
    @translated
    async def open_batch(self, request: OpenRequest) -> OpenBatch:
        batch_id = request.start.batch_id
        if request.start.spec is not None:
            batch_id = await self._register(request.start.spec, request)
        assert batch_id is not None
        await self._seal(batch_id)
        batch = await self._store.batches.claim(batch_id, request.workflow_id)
        return open_report(batch, is_searchable=await self._services.attributes.are_known(activity.client()))

    async def _register(self, spec: BatchSpec, request: OpenRequest) -> UUID:
        """The batch id follows from the run, so that a repeated attempt finds what an earlier one registered."""
        batch_id = uuid5(NAMESPACE_URL, f"overnight:{request.workflow_id}:{request.run_id}")
        batch, entries, room = registration(spec, batch_id, self._services.settings)
        await self._store.entries.create_filled(batch, entries, room)
        return batch_id

    async def _seal(self, batch_id: UUID) -> None:
        """What our client submits is closed by now, and was checked. This is for what was started elsewhere."""
        try:
            await seal_within_cost(self._store, batch_id, self._services.settings.prices)
        except CostLimitError as error:
            await self._store.batches.close(batch_id, BatchStatus.FAILED, code="max_cost", reason=str(error))
            raise

    @activity.defn(name="upload_entries")
    @step
    async def upload_entries(self, request: BatchRef) -> None:
        batch = await self._store.batches.get(request.batch_id)
        async with heartbeating(), self._store.submissions.alone(batch.id):
            if not await self._is_handed_over(batch.id):
                submission = await self._store.submissions.current(batch.id)
                # One that may have been created has its input, if it is found; if not, that is certain before another.
                if submission.started_at is None:
                    await self._upload(batch, submission)

    async def _upload(self, batch: Batch, submission: Submission) -> None:
        """Upload the entries, unless they are there."""
        if submission.file_id is not None:
            return
        pages = lambda: self._store.entries.pages(batch.id)  # noqa: E731 - one pass over the entries
        file_id = await self._services.provider(batch.provider).upload(submission, pages)
        if file_id is not None:
            await self._store.submissions.record_upload(batch.id, file_id)

    async def _is_handed_over(self, batch_id: UUID) -> bool:
        """Asked again behind the lock: another process may have been quicker."""
        batch = await self._store.batches.get(batch_id)
        return batch.provider_batch_id is not None or batch.status.is_terminal

    @activity.defn(name="create_provider_batch")
    @step
    async def create_provider_batch(self, request: BatchRef) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        async with heartbeating(), self._store.submissions.alone(batch.id):
            if not await self._is_handed_over(batch.id):
                await self._create_or_adopt(batch)
        batch = await self._store.batches.get(batch.id)
        # Without an error and without a provider batch: there was no room for it.
        sent_back = batch.provider_batch_id is None and not batch.status.is_terminal
        return poll_report(batch).model_copy(update={"resubmit": sent_back})

    async def _create_or_adopt(self, batch: Batch) -> None:
        provider = self._services.provider(batch.provider)
        submission = await self._store.submissions.current(batch.id)
        if submission.started_at is not None:
            adopted = await self._resolve(batch, submission)
            if adopted is not None:
                logger.warning(
                    "batch %s: adopted %s", batch.id, adopted.provider_batch_id, extra={"event": LogEvent.BATCH_ADOPTED}
                )
                await self._accepted(provider, batch, submission, adopted)
            if adopted is not None or await self._is_handed_over(batch.id):
                return
            submission = await self._store.submissions.current(batch.id)
        await self._upload(batch, submission)
        await self._create(provider, batch)

    async def _resolve(self, batch: Batch, submission: Submission) -> ProviderReport | None:
        """What an earlier create made; None when it made nothing, or when the batch's policy is not to wait for
        certainty. Its submission is let go then: should lists have been later than they may, what it made is looked
        for, and canceled, for as long as the batch lives.
        """
        try:
            found = await certain(self._services, batch, submission)
        except StillInDoubtError:
            if batch.on_ambiguous_submit is OnAmbiguousSubmit.WAIT:
                raise
            await self._store.submissions.abandon(batch.id)
            await self._fail_if_so_wanted(batch)
            return None
        if found is None:
            await self._store.submissions.abandon(batch.id)
        return found

    async def _fail_if_so_wanted(self, batch: Batch) -> None:
        if batch.on_ambiguous_submit is OnAmbiguousSubmit.FAIL:
            reason = "It could not be known whether the provider had taken the batch, and its policy is to fail then."
            await self._store.batches.close(batch.id, BatchStatus.FAILED, code=AMBIGUOUS_SUBMIT, reason=reason)

    async def _create(self, provider: Provider, batch: Batch) -> None:
        # The intent is committed before the first byte leaves: whoever comes after us will search before creating.
        submission = await self._store.submissions.record_intent(batch.id, await provider.newest())
        try:
            report = await provider.create(submission, lambda: self._fenced(submission))
        except (TransientProviderError, PermanentProviderError) as error:
            # Refused: certainly no batch. After anything else the intent stands, and the next attempt searches first.
            await self._store.submissions.withdraw_intent(submission)
            await self._refused(provider, batch, error)
        else:
            await self._accepted(provider, batch, submission, report)

    async def _accepted(self, provider: Provider, batch: Batch, submission: Submission, report: ProviderReport) -> None:
        if report.failure_code in provider.queue_full_codes:
            await send_back(self._services, batch, report, number=submission.number)
            return
        accepted = await self._store.submissions.accept(batch.id, report, number=submission.number)
        closed = accepted.status.is_terminal and not report.status.is_terminal
        if closed or accepted.provider_batch_id != report.provider_batch_id:
            # Closed, or handed over, behind our back: nobody waits for what was just made.
            logger.error(
                "batch %s: %s was made for nobody, and is canceled",
                batch.id,
                report.provider_batch_id,
                extra={"event": LogEvent.PROVIDER_BATCH_UNOWNED},
            )
            await provider.cancel(report.provider_batch_id)
        else:
            logger.info(
                "batch %s: %s has it, as %s",
                batch.id,
                provider.name,
                report.provider_batch_id,
                extra={"event": LogEvent.BATCH_SUBMITTED},
            )

    async def _refused(
        self, provider: Provider, batch: Batch, error: TransientProviderError | PermanentProviderError
    ) -> None:
        if error.status not in _REJECTIONS or error.code in provider.queue_full_codes:
            raise error
        code = error.code or f"http_{error.status}"
        await self._store.batches.close(batch.id, BatchStatus.FAILED, code=code, reason=error.message)

    async def _fenced(self, submission: Submission) -> AsyncIterator[Sequence[EntryLine]]:
        """The entries that were not uploaded, and behind the last one a look whether this attempt may still complete.
        Adapters send one chunk late, so that an attempt which was taken for dead meanwhile breaks off before its
        request is whole.
        """
        if submission.file_id is None:
            async for page in self._store.entries.pages(submission.batch_id):
                yield page
        await self._store.submissions.check_undoubted(submission)
