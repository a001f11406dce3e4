"""The life of one campaign: its batches are child workflows, which outlive a history that has become too long."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from overnight import campaign_contracts, contracts
    from overnight.batches import BatchStatus
    from overnight.campaign_contracts import (
        CampaignProgress,
        CampaignRef,
        CampaignStart,
        CampaignState,
        CampaignSummary,
        ClaimRequest,
        LookReport,
        LookRequest,
        OpenCampaign,
        RoundReport,
        RoundRequest,
        StopRequest,
    )
    from overnight.contracts import BatchStart, BatchSummary, Trouble
    from overnight.pace import Pace
    from overnight.texts import duration
    from workflows import options, texts
    from workflows.canceling import cancellation_as_signal
    from workflows.handling import Handling, TakesOrders
    from workflows.showing import Showing


@workflow.defn(name=campaign_contracts.WORKFLOW)
class CampaignWorkflow(TakesOrders):
    """Runs batches, a bounded number at once, round after round, and hands all results to one handler.

    What the batches are up to is read from the database. That a child ends only makes the next look come at once, so
    nothing depends on a message that could be lost, or on which history started a child.
    """

    @workflow.init
    def __init__(self, start: CampaignStart | None = None) -> None:
        resume = start and start.resume
        self._campaign: OpenCampaign | None = None
        self._resume = resume
        self._running: dict[UUID, None] = dict.fromkeys(resume.running if resume else ())
        self._pace = Pace.fresh(1)
        self._looks = resume.looks if resume else 0
        self._cancel_requested = bool(resume and resume.cancel_requested)
        self._is_stopped = bool(resume and resume.stopped)
        self._report = LookReport()
        self._status = BatchStatus.SUBMITTED
        self._skipped_round: str | None = None
        self._sent_again: set[UUID] = set()
        self._waited = False
        self._step = "open"
        self._round = 1
        self._started = 0
        self._woken = False
        self._next_look_at: datetime | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self._showing = Showing(resume.trouble if resume else None)
        self._handling = Handling(self._in_trouble, order=resume.order if resume else None)

    @workflow.run
    async def run(self, start: CampaignStart | None = None) -> CampaignSummary:
        """Temporal's own cancellation means what the `cancel` signal means; it orphans nothing."""
        if start is None:
            raise ApplicationError("A Campaign is started with a CampaignStart: a `campaign_id`.", type="StartError")
        return await cancellation_as_signal(self._live(start), self.cancel)

    async def _live(self, start: CampaignStart) -> CampaignSummary:
        campaign = await self._open(start.campaign_id)
        await self._run_batches(campaign)
        while await self._plan_round(campaign):
            await self._run_batches(campaign)
        summary = await self._settle(campaign)
        await self._dispatch(campaign, summary)
        self._enter("done")
        return summary

    # The steps.

    async def _open(self, campaign_id: UUID) -> OpenCampaign:
        campaign = await workflow.execute_activity(
            campaign_contracts.open_campaign,
            ClaimRequest(campaign_id=campaign_id, workflow_id=workflow.info().workflow_id),
            summary="claim the campaign",
            **options.OPEN_CAMPAIGN,
        )
        self._campaign, self._round, self._status = campaign, campaign.round, campaign.status
        self._showing.opened(campaign)
        maximum = campaign.max_concurrent_batches
        self._pace = self._resume.pace(maximum) if self._resume else Pace.fresh(maximum)
        self._cancel_requested = self._cancel_requested or campaign.cancel_requested
        return campaign

    async def _run_batches(self, campaign: OpenCampaign) -> None:
        self._enter("run batches")
        while True:
            await self._stop_if_due(campaign)
            await self._look(campaign)
            if not self._running:
                return
            await self._wait(campaign)
            self._continue_as_new_if_long(campaign)

    async def _plan_round(self, campaign: OpenCampaign) -> bool:
        """Whether there is anything to ask again, or a stop to be carried out."""
        if self._round >= campaign.rounds or self._is_stopped or self._is_stop_due(campaign):
            return False
        self._enter("plan a round")
        report = await self._planned(campaign)
        self._showing.trouble = None
        if report is None:
            return True
        self._round += 1 if report.entries else 0
        self._skipped_round = report.skipped
        return report.entries > 0

    async def _planned(self, campaign: OpenCampaign) -> RoundReport | None:
        """None where a stop has come in between: a plan may wait for the user's Tasks for ever. What it has written by
        then is stopped with the rest, and it writes nothing afterwards.
        """
        planning = workflow.start_activity(
            campaign_contracts.plan_round,
            RoundRequest(campaign_id=campaign.campaign_id, after=self._round),
            task_queue=campaign.planning_queue or options.bulk_queue(),
            summary=f"round {self._round + 1}: what is worth another try?",
            **options.FINALIZE,
        )
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: planning.done() or self._is_stop_due(campaign), timeout=self._left(campaign)
            )
        if not planning.done():
            planning.cancel()
        try:
            return await planning
        except (ActivityError, asyncio.CancelledError):
            if not self._is_stop_due(campaign):
                raise
            return None

    async def _settle(self, campaign: OpenCampaign) -> CampaignSummary:
        self._enter("settle")
        summary = await workflow.execute_activity(
            campaign_contracts.settle_campaign,
            CampaignRef(campaign_id=campaign.campaign_id),
            summary="add everything up",
            **options.OPEN,
        )
        self._status, self._skipped_round = summary.status, summary.skipped_round
        self._showing.trouble = None
        return summary

    async def _dispatch(self, campaign: OpenCampaign, summary: CampaignSummary) -> None:
        self._enter("dispatch")
        await self._handling.dispatch(campaign, summary)
        self._showing.trouble = None

    # One round of looking.

    async def _look(self, campaign: OpenCampaign) -> None:
        self._woken = False
        report = await workflow.execute_activity(
            campaign_contracts.look_at_batches,
            LookRequest(
                campaign_id=campaign.campaign_id, running=list(self._running), limit=campaign.max_concurrent_batches
            ),
            summary=f"{len(self._running)} batches run",
            **options.LOOK,
        )
        for batch_id in report.over:
            del self._running[batch_id]
        self._running.update(dict.fromkeys(report.found))
        self._report, self._showing.trouble = report, None
        if self._is_stopped:  # those of a workflow that was lost were not known when the others were told
            await self._tell_all(report.found, contracts.CANCEL)
        await self._send_again(report)
        self._pace = self._pace.after(ended=len(report.over), refused=bool(report.without_room))
        following = report.waiting[: self._pace.starts(len(self._running))]
        await self._start_all([*report.lost, *following])
        self._show()

    async def _send_again(self, report: LookReport) -> None:
        """Refused batches wait to be told: only the campaign knows how many may run, and when one has ended."""
        if self._is_stopped:
            return
        if self._waited:
            self._sent_again.clear()
        refused = [batch_id for batch_id in report.without_room if batch_id not in self._sent_again]
        count = self._pace.goes_again(
            refused=len(refused),
            running=len(self._running),
            ended=bool(report.over),
            waited=self._waited and self._pace.is_held,
        )
        self._sent_again.update(refused[:count])
        await self._tell_all(refused[:count], contracts.POLL_NOW)

    async def _start_all(self, batch_ids: Sequence[UUID]) -> None:
        """Batches that come next, and those that lost their workflow: their provider batches may be running."""
        self._running.update(dict.fromkeys(batch_ids))
        await asyncio.gather(*(self._start(batch_id) for batch_id in batch_ids))

    async def _start(self, batch_id: UUID) -> None:
        self._started += 1
        with contextlib.suppress(WorkflowAlreadyStartedError):  # then it runs, and that is what was wanted
            handle = await workflow.start_child_workflow(
                contracts.WORKFLOW,
                BatchStart(batch_id=batch_id),
                id=contracts.workflow_id(batch_id),
                result_type=BatchSummary,
                # A history that continues as new closes, and its batches must not.
                parent_close_policy=ParentClosePolicy.ABANDON,
                static_summary=f"round {self._round}",
            )
            self._watches.add(asyncio.create_task(self._watch(handle)))

    async def _watch(self, batch: ChildWorkflowHandle[object, BatchSummary]) -> None:
        """What ended otherwise than by coming to its end is found by a look, in its own time."""
        with contextlib.suppress(ChildWorkflowError):
            await batch
            self._woken = True

    async def _wait(self, campaign: OpenCampaign) -> None:
        wait = self._next_wait(campaign)
        self._next_look_at = workflow.now() + wait
        self._show()
        try:
            await workflow.wait_condition(
                lambda: self._woken or self._is_stop_due(campaign),
                timeout=wait,
                timeout_summary=f"{len(self._running)} batches run; look again in {duration(wait)}",
            )
        except TimeoutError:
            self._looks, self._waited = self._looks + 1, True
        else:
            self._looks, self._waited = 0, False
        self._next_look_at = None

    def _next_wait(self, campaign: OpenCampaign) -> timedelta:
        scheduled = campaign.looks.wait(polls=self._looks, age=timedelta(0))
        left = self._left(campaign)
        return min(scheduled, options.LOOK_WAIT, options.LOOK_WAIT if left is None or self._is_stopped else left)

    def _left(self, campaign: OpenCampaign) -> timedelta | None:
        """Until max age; None where nobody has set one."""
        if campaign.max_age is None:
            return None
        return max(campaign.sealed_at + campaign.max_age - workflow.now(), timedelta(0))

    # Stopping.

    def _is_stop_due(self, campaign: OpenCampaign) -> bool:
        return not self._is_stopped and (self._cancel_requested or self._left(campaign) == timedelta(0))

    async def _stop_if_due(self, campaign: OpenCampaign) -> None:
        if not self._is_stop_due(campaign):
            return
        too_old = not self._cancel_requested
        await workflow.execute_activity(
            campaign_contracts.stop_campaign,
            StopRequest(campaign_id=campaign.campaign_id, running=list(self._running), too_old=too_old),
            summary="max age has passed" if too_old else "cancel",
            **options.FINALIZE,
        )
        self._is_stopped = True
        await self._tell_all([*self._running], contracts.CANCEL)

    async def _tell_all(self, batch_ids: Sequence[UUID], signal: str) -> None:
        await asyncio.gather(*(self._tell(batch_id, signal) for batch_id in batch_ids))

    async def _tell(self, batch_id: UUID, signal: str) -> None:
        """One that has no workflow just now reads in the database what is wanted of it when it has one again."""
        batch = workflow.get_external_workflow_handle(contracts.workflow_id(batch_id))
        with contextlib.suppress(ApplicationError):
            await batch.signal(signal)

    def _continue_as_new_if_long(self, campaign: OpenCampaign) -> None:
        is_long = self._started >= options.BATCHES_PER_RUN or workflow.info().is_continue_as_new_suggested()
        if not is_long:
            return
        state = CampaignState(
            running=list(self._running),
            limit=self._pace.limit,
            calm=self._pace.calm,
            is_held=self._pace.is_held,
            cancel_requested=self._cancel_requested,
            stopped=self._is_stopped,
            looks=self._looks,
            trouble=self._showing.trouble,
            order=self._handling.order,
        )
        workflow.continue_as_new(CampaignStart(campaign_id=campaign.campaign_id, resume=state))

    # What others may ask.

    @workflow.signal(name=contracts.CANCEL)
    def cancel(self) -> None:
        """Cancel the campaign: what was not sent stays unsent, and of what runs the providers are asked."""
        self._cancel_requested = True

    @workflow.signal(name=contracts.POLL_NOW)
    def poll_now(self) -> None:
        """Look at the batches now instead of at the end of the present wait."""
        self._woken = True

    @workflow.signal(name=contracts.TROUBLE)
    def trouble(self, trouble: Trouble) -> None:
        """As for a batch: a step's own word that it fails."""
        self._in_trouble(trouble)

    @workflow.query(name=contracts.PROGRESS)
    def progress(self) -> CampaignProgress:
        """How far the campaign has come."""
        return CampaignProgress(
            campaign_id=self._campaign.campaign_id if self._campaign else None,
            step=self._step,
            round=self._round,
            statuses=self._report.statuses,
            running=len(self._running),
            limit=self._pace.limit,
            done=self._report.done,
            total=self._campaign.entry_count if self._campaign else 0,
            next_look_at=self._next_look_at,
            cancel_requested=self._cancel_requested,
            last_error=self._showing.trouble.text if self._showing.trouble else None,
            skipped_round=self._skipped_round,
        )

    # Keeping track.

    def _enter(self, step: str) -> None:
        """As for a batch, trouble is over when a step succeeds."""
        self._step = step
        self._show()

    def _in_trouble(self, trouble: Trouble | None) -> None:
        self._showing.trouble = trouble
        self._show()

    def _show(self) -> None:
        if self._campaign is not None:
            details = texts.campaign_details(self._campaign, self.progress(), self._showing.trouble)
            self._showing.show(self._campaign, self._status, details)
