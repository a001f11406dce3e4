"""A stage for the workflow: scripted activities, and a note of every call with the workflow's time."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from overnight.batches import BatchStatus, Outcome
from overnight.contracts import (
    WORKFLOW,
    BatchRef,
    BatchStart,
    BatchSummary,
    CleanUpReport,
    ExpireRequest,
    HydrateReport,
    IngestReport,
    OpenBatch,
    OpenRequest,
    PollReport,
    PollRequest,
    PollState,
    Trouble,
    bulk_task_queue,
)
from overnight.handling.process import Workers
from overnight.schedule import DEFAULT_MAX_AGE, DEFAULT_WAITS
from tests.workflow.scripted import Scripted
from workflows import BatchWorkflow

Answer = PollReport | Exception


def says(status: BatchStatus, **counts: Any) -> PollReport:
    return PollReport(status=status, **counts)


def transient(wait: timedelta | None = None) -> ApplicationError:
    return ApplicationError("HTTP 503", type="TransientProviderError", next_retry_delay=wait)


@dataclass
class Stage(Scripted):
    """What the activities answer, and what they were asked."""

    polls: list[Answer] = field(default_factory=list)
    """Answers of `fetch_status` in turn; the last one repeats."""
    creates: list[Answer] = field(default_factory=list)
    cancels: list[Answer] = field(default_factory=list)
    reports: list[BatchSummary] = field(default_factory=list)
    """What the user's own activity was called with."""
    refusals: int = 0
    """How often that says that it can never succeed."""
    results_lost: bool = False
    told: list[Trouble] = field(default_factory=list)

    def worker(self, *passed_through: str) -> Workers:
        """The workers that run batches; what passes through the workflow's sandbox can be changed from outside."""
        modules = ("overnight", "pydantic", "pydantic_core", *passed_through)
        restrictions = SandboxRestrictions.default.with_passthrough_modules(*modules)
        batches = Worker(
            self.environment.client,
            task_queue=self.queue,
            workflows=[BatchWorkflow],
            activities=[
                self.open_batch,
                self.fetch_status,
                self.cancel_batch,
                self.expire_batch,
                self.dispatch_handler,
                self.report_trouble,
            ],
            workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
        )
        return Workers(batches, self._bulk_worker())

    def _bulk_worker(self) -> Worker:
        return Worker(
            self.environment.client,
            task_queue=bulk_task_queue(self.queue),
            activities=[
                self.upload_entries,
                self.create_provider_batch,
                self.ingest_results,
                self.hydrate_results,
                self.dispatch_handler,
                self.clean_up,
            ],
        )

    def users_worker(self) -> Worker:
        """A worker of the user's, on a task queue of its own."""
        return Worker(
            self.environment.client,
            task_queue=self.users_queue,
            activities=[self.hydrate_results, self.dispatch_handler, self.send_report],
        )

    async def start(self, resume: PollState | None = None) -> WorkflowHandle[Any, BatchSummary]:
        return await self.environment.client.start_workflow(
            WORKFLOW,
            BatchStart(batch_id=uuid.uuid4(), resume=resume),
            id=f"batch-{uuid.uuid4()}",
            task_queue=self.queue,
            result_type=BatchSummary,
        )

    async def run(self) -> BatchSummary:
        return await (await self.start()).result()

    def times(self, name: str, since: str = "create_provider_batch") -> list[timedelta]:
        """When something was called, counted from the last call of something else."""
        start = max(at for called, at in self.calls if called == since)
        return [at - start for called, at in self.calls if called == name]

    @staticmethod
    def _next(answers: list[Answer], default: Answer) -> PollReport:
        answer = (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else default
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="open_batch")
    async def open_batch(self, request: OpenRequest) -> OpenBatch:
        await self._note("open_batch")
        assert request.start.batch_id is not None
        fresh: dict[str, Any] = {
            "batch_id": request.start.batch_id,
            "status": BatchStatus.PENDING,
            "provider": "openai",
            "model": "gpt-5.4-mini",
            "entry_count": 3,
            "poll_waits": list(DEFAULT_WAITS),
            "max_age": DEFAULT_MAX_AGE,
            "handler": "Save",
        }
        return OpenBatch(**{**fresh, **self.opened})

    @activity.defn(name="upload_entries")
    async def upload_entries(self, request: BatchRef) -> None:
        await self._note("upload_entries")

    @activity.defn(name="create_provider_batch")
    async def create_provider_batch(self, request: BatchRef) -> PollReport:
        now = await self._note("create_provider_batch")
        report = self._next(self.creates, says(BatchStatus.SUBMITTED))
        return report.model_copy(update={"submitted_at": now})

    @activity.defn(name="fetch_status")
    async def fetch_status(self, request: PollRequest) -> PollReport:
        await self._note("fetch_status")
        return self._kept(self._next(self.polls, says(BatchStatus.ENDED)))

    @activity.defn(name="cancel_batch")
    async def cancel_batch(self, request: BatchRef) -> PollReport:
        await self._note("cancel_batch")
        return self._kept(self._next(self.cancels, says(BatchStatus.IN_PROGRESS)))

    @activity.defn(name="expire_batch")
    async def expire_batch(self, request: ExpireRequest) -> PollReport:
        await self._note("expire_batch_finally" if request.final else "expire_batch")
        return self._kept(says(BatchStatus.FAILED if request.final else BatchStatus.IN_PROGRESS, reason="too old"))

    @activity.defn(name="ingest_results")
    async def ingest_results(self, request: BatchRef) -> IngestReport:
        await self._note("ingest_results")
        return IngestReport(
            lines=3,
            accepted=3,
            duplicates=0,
            unknown=0,
            malformed=0,
            without_line=0,
            results_lost=self.results_lost,
        )

    @activity.defn(name="hydrate_results")
    async def hydrate_results(self, request: BatchRef) -> HydrateReport:
        await self._note("hydrate_results")
        return HydrateReport(outcomes={Outcome.SUCCEEDED: 3})

    @activity.defn(name="send_report")
    async def send_report(self, summary: BatchSummary) -> str:
        await self._note("send_report")
        self.reports.append(summary)
        if self.refusals:
            self.refusals -= 1
            raise ApplicationError("no such mailbox", type="MailError", non_retryable=True)
        return "a result that nobody reads"

    @activity.defn(name="report_trouble")
    async def report_trouble(self, request: Trouble) -> None:
        self.told.append(request)

    @activity.defn(name="clean_up")
    async def clean_up(self, request: BatchRef) -> CleanUpReport:
        await self._note("clean_up")
        return CleanUpReport()

    def _kept(self, report: PollReport) -> PollReport:
        """The database remembers when the batch was submitted; a report carries that along."""
        created: Iterable[datetime] = (at for name, at in self.calls if name == "create_provider_batch")
        submitted_at = None if report.resubmit else max(created, default=None)
        return report.model_copy(update={"submitted_at": submitted_at})
