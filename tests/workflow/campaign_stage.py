"""A stage for the campaign workflow: scripted activities, and batches that take as long as they are told."""

import asyncio
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from overnight import campaign_contracts, contracts
from overnight.batches import BatchStatus, Outcome
from overnight.campaign_contracts import (
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
    StopReport,
    StopRequest,
)
from overnight.contracts import BatchStart, BatchSummary, bulk_task_queue
from overnight.handling.process import Workers
from overnight.schedule import DEFAULT_WAITS
from tests.workflow.scripted import Scripted
from workflows import CampaignWorkflow

_STAGES: dict[str, "CampaignStage"] = {}


@workflow.defn(name=contracts.WORKFLOW, sandboxed=False)
class TimedBatch:
    """Takes an hour, or until it is canceled; what it does it notes where the test can see it."""

    @workflow.init
    def __init__(self, start: BatchStart) -> None:
        self._stage = _STAGES[workflow.info().task_queue]
        self._id = start.batch_id
        self._canceled = False

    @workflow.run
    async def run(self, start: BatchStart) -> BatchSummary:
        assert start.batch_id is not None
        self._stage.begin(start.batch_id)
        await workflow.wait_condition(lambda: self._id not in self._stage.full)
        try:
            await workflow.wait_condition(lambda: self._canceled, timeout=self._stage.lasting)
        except TimeoutError:
            status = BatchStatus.ENDED
        else:
            status = BatchStatus.CANCELED
        self._stage.over[start.batch_id] = status
        return BatchSummary(batch_id=start.batch_id, status=status, outcomes={})

    @workflow.signal(name=contracts.CANCEL)
    def cancel(self) -> None:
        self._canceled = True

    @workflow.signal(name=contracts.POLL_NOW)
    def poll_now(self) -> None:
        assert self._id is not None
        self._stage.sent_again.append((self._id, workflow.now()))
        self._stage.full.discard(self._id)


@dataclass
class CampaignStage(Scripted):
    """What the activities answer, and what was done."""

    rounds: list[int] = field(default_factory=lambda: [3])
    """How many batches each round has."""
    allowed_rounds: int = 1
    at_once: int = 2
    max_age: timedelta | None = None
    plannable: bool = True
    """Whether the worker has the Tasks that a further round needs."""
    lasting: timedelta = timedelta(hours=1)
    looks: list[timedelta] = field(default_factory=lambda: list(DEFAULT_WAITS))
    refused: list[Collection[int]] = field(default_factory=list)
    """For each look in turn, which batches of those that run have no room; after the last one all have."""
    full: set[UUID] = field(default_factory=set)
    """Batches that are refused until they are told to go again."""
    sent_again: list[tuple[UUID, datetime]] = field(default_factory=list)
    lost: set[UUID] = field(default_factory=set)
    reports: list[CampaignSummary] = field(default_factory=list)
    batches: list[UUID] = field(default_factory=list)
    begun: list[UUID] = field(default_factory=list)
    over: dict[UUID, BatchStatus] = field(default_factory=dict)
    peak: int = 0
    opened_at: datetime | None = None
    may_open_for: timedelta | None = None

    def worker(self) -> Workers:
        _STAGES[self.queue] = self
        restrictions = SandboxRestrictions.default.with_passthrough_modules("overnight", "pydantic", "pydantic_core")
        steps = [
            self.open_campaign,
            self.look_at_batches,
            self.stop_campaign,
            self.settle_campaign,
            self.dispatch_handler,
        ]
        campaigns = Worker(
            self.environment.client,
            task_queue=self.queue,
            workflows=[CampaignWorkflow, TimedBatch],
            activities=steps,
            workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
            max_cached_workflows=2_000,
        )
        bulk = Worker(
            self.environment.client,
            task_queue=bulk_task_queue(self.queue),
            activities=[self.plan_round, self.dispatch_handler],
        )
        return Workers(campaigns, bulk)

    def users_worker(self) -> Worker:
        """A worker of the user's, on a task queue of its own."""
        return Worker(
            self.environment.client,
            task_queue=self.users_queue,
            activities=[self.plan_round, self.dispatch_handler, self.send_report],
        )

    async def start(self, resume: CampaignState | None = None) -> WorkflowHandle[Any, CampaignSummary]:
        if not self.batches:
            self.add_round(0)
        campaign_id = uuid.uuid4()
        return await self.environment.client.start_workflow(
            campaign_contracts.WORKFLOW,
            CampaignStart(campaign_id=campaign_id, resume=resume),
            id=campaign_contracts.workflow_id(campaign_id),
            task_queue=self.queue,
            result_type=CampaignSummary,
        )

    async def start_batch(self, batch_id: UUID) -> None:
        """As an earlier workflow of the campaign did, which is lost."""
        await self.environment.client.start_workflow(
            contracts.WORKFLOW,
            BatchStart(batch_id=batch_id),
            id=contracts.workflow_id(batch_id),
            task_queue=self.queue,
        )

    async def run(self) -> CampaignSummary:
        return await (await self.start()).result()

    async def begun_count(self, count: int) -> None:
        while len(self.begun) < count:
            await asyncio.sleep(0.01)

    def begin(self, batch_id: UUID) -> None:
        self.lost.discard(batch_id)
        self.begun.append(batch_id)
        self.peak = max(self.peak, len(set(self.begun) - set(self.over)))

    def add_round(self, number: int) -> None:
        first = len(self.batches)
        self.batches += [UUID(int=first + index + 1, version=4) for index in range(self.rounds[number])]

    @activity.defn(name="open_campaign")
    async def open_campaign(self, request: ClaimRequest) -> OpenCampaign:
        self.opened_at = self.opened_at or await self._note("open_campaign")
        self.may_open_for = activity.info().start_to_close_timeout
        return OpenCampaign(
            campaign_id=request.campaign_id,
            status=BatchStatus.IN_PROGRESS,
            provider="openai",
            model="gpt-5.4-mini",
            entry_count=30,
            round=1,
            rounds=self.allowed_rounds,
            max_concurrent_batches=self.at_once,
            poll_waits=self.looks,
            sealed_at=self.opened_at,
            max_age=self.max_age,
            **{"handler": "Save", **self.opened},
        )

    @activity.defn(name="look_at_batches")
    async def look_at_batches(self, request: LookRequest) -> LookReport:
        await self._note("look_at_batches")
        assert len(request.running) <= self.at_once
        known = set(request.running) | set(self.begun) | set(self.over)
        refused = self.refused.pop(0) if self.refused else ()
        return LookReport(
            over=[batch_id for batch_id in request.running if batch_id in self.over],
            found=[batch_id for batch_id in self.begun if batch_id not in {*request.running, *self.over}],
            lost=[batch_id for batch_id in request.running if batch_id in self.lost],
            without_room=[
                *(self.batches[index] for index in refused),
                *(batch_id for batch_id in request.running if batch_id in self.full),
            ],
            waiting=[batch_id for batch_id in self.batches if batch_id not in known][: request.limit],
        )

    @activity.defn(name="stop_campaign")
    async def stop_campaign(self, request: StopRequest) -> StopReport:
        await self._note("stop_for_age" if request.too_old else "stop_campaign")
        unsent = [batch_id for batch_id in self.batches if batch_id not in {*self.begun, *request.running}]
        self.over.update(dict.fromkeys(unsent, BatchStatus.CANCELED))
        return StopReport(closed=len(unsent))

    @activity.defn(name="plan_round")
    async def plan_round(self, request: RoundRequest) -> RoundReport:
        await self._note("plan_round")
        if not self.plannable:
            raise ApplicationError("There is no such task here.", type="UnknownTaskError")
        if request.after < len(self.rounds):
            self.add_round(request.after)
            return RoundReport(round=request.after + 1, batches=self.rounds[request.after], entries=1)
        return RoundReport(round=request.after + 1, batches=0, entries=0)

    @activity.defn(name="settle_campaign")
    async def settle_campaign(self, request: CampaignRef) -> CampaignSummary:
        await self._note("settle_campaign")
        statuses = list(self.over.values())
        return CampaignSummary(
            campaign_id=request.campaign_id,
            status=BatchStatus.ENDED,
            outcomes={Outcome.SUCCEEDED: 30},
            batches={status: statuses.count(status) for status in set(statuses)},
            rounds=len(self.rounds),
        )

    @activity.defn(name="send_report")
    async def send_report(self, summary: CampaignSummary) -> None:
        await self._note("send_report")
        self.reports.append(summary)
