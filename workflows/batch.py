"""The life of one batch."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from overnight import contracts
    from overnight.batches import BatchStatus
    from overnight.contracts import (
        BatchRef,
        BatchStart,
        BatchSummary,
        ExpireRequest,
        HydrateReport,
        OpenBatch,
        OpenRequest,
        PollReport,
        PollRequest,
        PollState,
        ProgressReport,
        Trouble,
    )
    from overnight.texts import duration
    from workflows import options, texts
    from workflows.canceling import cancellation_as_signal
    from workflows.handling import Handling, TakesOrders
    from workflows.showing import Showing


@workflow.defn(name=contracts.WORKFLOW)
class BatchWorkflow(TakesOrders):
    """Submits a batch, polls until it is over, and hands the results to its handler."""

    @workflow.init
    def __init__(self, start: BatchStart | None = None) -> None:
        resume = (start and start.resume) or PollState()
        self._batch: OpenBatch | None = None
        self._step = "open"
        self._report = PollReport(status=BatchStatus.PENDING)
        self._last_error: str | None = None
        self._polls = resume.polls
        self._waits = resume.waits
        self._asked_wait: timedelta | None = None
        self._next_poll_at: datetime | None = None
        self._cancel_requested = resume.cancel_requested
        self._cancel_sent = resume.cancel_sent
        self._cancel_is_due = resume.cancel_requested and not resume.cancel_sent
        self._gave_up_at = resume.gave_up_at
        self._refusals = resume.refusals
        self._is_submitted = False
        self._showing = Showing(resume.trouble)
        self._summarized: BatchSummary | None = None
        self._handling = Handling(self._in_trouble, order=resume.order)
        self._woken = False

    @workflow.run
    async def run(self, start: BatchStart | None = None) -> BatchSummary:
        """Temporal's own cancellation means what the `cancel` signal means; it orphans nothing."""
        if start is None:
            # A missing argument would otherwise fail the task for ever, instead of the workflow.
            raise ApplicationError("A Batch is started with a BatchStart: a `batch_id` or a `spec`.", type="StartError")
        return await cancellation_as_signal(self._live(start), self.cancel)

    async def _live(self, start: BatchStart) -> BatchSummary:
        batch = await self._open(start)
        while not self._report.status.is_terminal:
            await self._submit(batch)
            await self._poll_until_over(batch)
        await self._ingest(batch)
        self._summarized = summary = self._summary(batch, await self._hydrate(batch))
        await self._dispatch(batch, summary)
        await self._clean_up(batch)
        self._enter("done")
        return summary

    # The steps.

    async def _open(self, start: BatchStart) -> OpenBatch:
        info = workflow.info()
        batch = await workflow.execute_activity(
            contracts.open_batch,
            OpenRequest(start=start, workflow_id=info.workflow_id, run_id=info.first_execution_run_id),
            summary="claim the batch",
            **options.OPEN,
        )
        self._batch = batch
        self._showing.opened(batch)
        self._report = PollReport(
            status=batch.status, submitted_at=batch.submitted_at, provider_batch_id=batch.provider_batch_id
        )
        self._is_submitted = batch.provider_batch_id is not None
        if batch.cancel_requested:
            self.cancel()
        return batch

    async def _submit(self, batch: OpenBatch) -> None:
        if self._is_submitted:
            return
        if self._refusals:
            await self._wait_for_room(batch)
        if self._cancel_requested:
            return
        self._enter("submit")
        if batch.uploads_first:
            if not await self._unless_cancelled(self._start_upload(batch)):
                return
            self._settle()
        create = workflow.start_activity(
            contracts.create_provider_batch,
            BatchRef(batch_id=batch.batch_id),
            task_queue=options.bulk_queue(),
            summary=f"create at {batch.provider}, with {batch.entry_count} entries",
            **options.SUBMIT,
        )
        if await self._unless_cancelled(create):
            self._is_submitted = True
            self._take_unless_sent_back(create.result())

    def _start_upload(self, batch: OpenBatch) -> workflow.ActivityHandle[None]:
        return workflow.start_activity(
            contracts.upload_entries,
            BatchRef(batch_id=batch.batch_id),
            task_queue=options.bulk_queue(),
            summary=f"upload {batch.entry_count} entries",
            **options.SUBMIT,
        )

    async def _poll_until_over(self, batch: OpenBatch) -> None:
        """Or until the provider's full queue sends the batch back to be submitted again."""
        self._enter("poll")
        while (self._is_submitted or self._cancel_requested) and not self._report.status.is_terminal:
            await self._wait(batch)
            await (self._cancel(batch) if self._cancel_is_due else self._poll(batch))
            await self._expire_if_too_old(batch)
            self._continue_as_new_if_long(batch)

    async def _ingest(self, batch: OpenBatch) -> None:
        self._enter("ingest")
        report = await workflow.execute_activity(
            contracts.ingest_results,
            BatchRef(batch_id=batch.batch_id),
            task_queue=options.bulk_queue(),
            summary=f"{self._report.status.value}: read the result lines",
            **options.FINALIZE,
        )
        self._showing.results_lost = report.results_lost
        self._settle()

    async def _hydrate(self, batch: OpenBatch) -> HydrateReport:
        self._enter("hydrate")
        report = await self._handling.hydrate(batch)
        self._settle()
        return report

    async def _dispatch(self, batch: OpenBatch, summary: BatchSummary) -> None:
        self._enter("dispatch")
        await self._handling.dispatch(batch, summary)
        self._settle()

    async def _clean_up(self, batch: OpenBatch) -> None:
        self._enter("clean up")
        try:
            await workflow.execute_activity(
                contracts.clean_up,
                BatchRef(batch_id=batch.batch_id),
                task_queue=options.bulk_queue(),
                summary="clean up",
                **options.CLEAN_UP,
            )
        except ActivityError as error:
            self._note(error)  # what is left over costs nothing more; `overnight doctor` finds it
        else:
            self._settle()

    def _summary(self, batch: OpenBatch, hydrated: HydrateReport) -> BatchSummary:
        return BatchSummary(
            batch_id=batch.batch_id,
            status=self._report.status,
            outcomes=hydrated.outcomes,
            cost=hydrated.cost,
            list_cost=hydrated.list_cost,
            reason=self._report.reason,
        )

    # One round of polling.

    async def _wait(self, batch: OpenBatch) -> None:
        wait = self._next_wait(batch)
        self._next_poll_at = workflow.now() + wait
        self._show()
        try:
            await workflow.wait_condition(self._is_called, timeout=wait, timeout_summary=self._wait_says(wait))
        except TimeoutError:
            self._waits += 1
        self._woken, self._next_poll_at, self._asked_wait = False, None, None

    def _wait_says(self, wait: timedelta) -> str:
        return texts.waiting(self._report, self._polls, wait, failed=self._last_error is not None)

    async def _wait_for_room(self, batch: OpenBatch) -> None:
        """The provider took the batch and then had no room for it: nothing ran, and nothing was paid."""
        scheduled = batch.schedule.wait(polls=self._refusals - 1, age=timedelta(0))
        wait = max(scheduled, options.ROOM_WAIT) if batch.is_paced else scheduled
        self._step, self._waits, self._next_poll_at = "wait for room at the provider", 0, workflow.now() + wait
        self._show()
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                self._is_called,
                timeout=wait,
                timeout_summary=f"the provider's queue is full; submit again in {duration(wait)}",
            )
        self._woken, self._next_poll_at = False, None

    def _is_called(self) -> bool:
        return self._woken or self._cancel_is_due

    def _next_wait(self, batch: OpenBatch) -> timedelta:
        if self._gave_up_at is not None:
            left = self._gave_up_at + options.GRACE - workflow.now()
            return max(min(batch.schedule.waits[0], options.GRACE_WAIT, left), timedelta(0))
        return batch.schedule.wait(polls=self._waits, age=self._age(), asked=self._asked_wait)

    def _age(self) -> timedelta:
        """Of the submission; what the provider does not have yet does not age."""
        return workflow.now() - self._report.submitted_at if self._report.submitted_at else timedelta(0)

    async def _poll(self, batch: OpenBatch) -> None:
        self._polls += 1
        try:
            report = await workflow.execute_activity(
                contracts.fetch_status,
                PollRequest(batch_id=batch.batch_id, provider_batch_id=self._report.provider_batch_id),
                summary=f"poll {self._polls}",
                **options.POLL,
            )
        except ActivityError as error:
            self._note(error)
        else:
            self._take_unless_sent_back(report)
        # A cancel that the provider would not hear is asked for again, in turn with the polls.
        self._cancel_is_due = self._cancel_requested and not self._cancel_sent

    async def _cancel(self, batch: OpenBatch) -> None:
        self._cancel_is_due, self._waits = False, 0
        try:
            report = await workflow.execute_activity(
                contracts.cancel_batch, BatchRef(batch_id=batch.batch_id), summary="cancel", **options.CANCEL
            )
        except ActivityError as error:
            self._note(error)
        else:
            self._cancel_sent = True
            self._take(report)

    async def _expire_if_too_old(self, batch: OpenBatch) -> None:
        if self._report.status.is_terminal or not batch.schedule.is_over(self._age()):
            return
        final = self._gave_up_at is not None
        if self._gave_up_at is not None and workflow.now() < self._gave_up_at + options.GRACE:
            return
        self._take(
            await workflow.execute_activity(
                contracts.expire_batch,
                ExpireRequest(batch_id=batch.batch_id, final=final),
                summary="close it here, the provider did not" if final else "max age has passed",
                **options.EXPIRE,
            )
        )
        self._gave_up_at = self._gave_up_at or workflow.now()

    def _continue_as_new_if_long(self, batch: OpenBatch) -> None:
        if self._report.status.is_terminal or not workflow.info().is_continue_as_new_suggested():
            return
        state = PollState(
            polls=self._polls,
            waits=self._waits,
            cancel_requested=self._cancel_requested,
            cancel_sent=self._cancel_sent,
            gave_up_at=self._gave_up_at,
            refusals=self._refusals,
            trouble=self._showing.trouble,
            order=self._handling.order,
        )
        workflow.continue_as_new(BatchStart(batch_id=batch.batch_id, resume=state))

    # What others may ask.

    @workflow.signal(name=contracts.CANCEL)
    def cancel(self) -> None:
        """Cancel the batch: at once where nothing was sent yet, else by asking the provider."""
        self._cancel_is_due = self._cancel_is_due or not self._cancel_requested
        self._cancel_requested = True

    @workflow.signal(name=contracts.POLL_NOW)
    def poll_now(self) -> None:
        """Look at the provider now instead of at the end of the present wait."""
        self._woken = True

    @workflow.signal(name=contracts.TROUBLE)
    def trouble(self, trouble: Trouble) -> None:
        """A step's own word that it fails: Temporal tries it again and tells the workflow nothing."""
        self._in_trouble(trouble)

    @workflow.query(name=contracts.PROGRESS)
    def progress(self) -> ProgressReport:
        """How far the batch has come."""
        return ProgressReport(
            batch_id=self._batch.batch_id if self._batch else None,
            step=self._step,
            status=self._report.status,
            polls=self._polls,
            done=self._report.done,
            failed=self._report.failed,
            total=self._report.total,
            next_poll_at=self._next_poll_at,
            cancel_requested=self._cancel_requested,
            last_error=self._last_error,
        )

    # Keeping track.

    def _enter(self, step: str) -> None:
        """What troubles the batch is over when a step succeeds, and not when one begins: nobody tells of it twice."""
        self._step = step
        self._show()

    def _take(self, report: PollReport) -> None:
        self._report = report
        self._settle()

    def _take_unless_sent_back(self, report: PollReport) -> None:
        """A batch for which there was no room is as if it had not been submitted."""
        self._take(report)
        if report.resubmit:
            self._is_submitted = False
            self._refusals += 1

    def _settle(self) -> None:
        """A step has succeeded."""
        self._last_error = None
        self._in_trouble(None)

    def _note(self, error: ActivityError) -> None:
        cause = error.cause
        self._asked_wait = cause.next_retry_delay if isinstance(cause, ApplicationError) else None
        self._last_error = str(cause or error)
        self._show()

    def _in_trouble(self, trouble: Trouble | None) -> None:
        self._showing.trouble = trouble
        self._last_error = trouble.text if trouble else self._last_error
        self._show()

    def _show(self) -> None:
        if self._batch is None:
            return
        view = texts.View(
            batch=self._batch,
            report=self._report,
            step=self._step,
            polls=self._polls,
            now=workflow.now(),
            next_poll_at=self._next_poll_at,
            last_error=self._last_error,
            trouble=self._showing.trouble,
            results_lost=self._showing.results_lost,
            summary=self._summarized,
        )
        self._showing.show(self._batch, self._report.status, texts.details(view))

    async def _unless_cancelled(self, step: workflow.ActivityHandle[object]) -> bool:
        """Wait for a step of submission; a cancel stops it between its attempts. Says whether the step succeeded."""
        await workflow.wait_condition(lambda: step.done() or self._cancel_requested)
        if not step.done():
            step.cancel()
        try:
            await step
        except (ActivityError, asyncio.CancelledError):
            if not self._cancel_requested:
                raise
            return False
        return True
