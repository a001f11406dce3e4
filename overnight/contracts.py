"""The Temporal boundary: every name, and the shape of everything that crosses it.

Names are written here once and never derived from code, so that renaming a class never breaks a running batch. What
crosses carries ids, counts and short texts: no prompt, no response, no key, except for the entries of a `spec` that
a foreign client hands in inline. Unknown fields are ignored, so that old workers can read what newer ones write.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from temporalio import activity
from temporalio.exceptions import ApplicationError

from overnight.batches import BatchStatus, OnAmbiguousSubmit, Outcome
from overnight.schedule import PollSchedule

WORKFLOW = "Batch"
CANCEL = "cancel"
POLL_NOW = "poll_now"
RETRY_HANDLER = "retry_handler"
SKIP_HANDLER = "skip_handler"
PROGRESS = "progress"
TROUBLE = "trouble"


def workflow_id(batch_id: UUID) -> str:
    """The id of the one workflow that runs a batch, when our own client starts it."""
    return f"batch-{batch_id}"


def bulk_task_queue(task_queue: str) -> str:
    """Beside the task queue of the batches, the one for their bulk steps."""
    return f"{task_queue}-bulk"


def faults(error: ValidationError) -> str:
    """What does not fit, by name and reason; the values stay out of it, for they may be prompts."""
    return "; ".join(f"{'.'.join(map(str, at['loc']))}: {at['msg']}" for at in error.errors(include_input=False))


class Payload(BaseModel):
    """A value that crosses the boundary, as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SpecEntry(Payload):
    """One entry of an inline spec: a Task by its registered name and fields, or a provider-ready body."""

    custom_id: str | None = None
    task: str | None = None
    fields: dict[str, JsonValue] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The task's own settings: `max_tokens` and the like."""
    request: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.task is None) == (self.request is None):
            raise ValueError("an entry has either a `task` with `fields`, or a `request`")
        return self


class BatchOptions(Payload):
    """What is chosen once for a whole batch."""

    provider: str
    model: str
    endpoint: str | None = None
    """The provider's first one by default."""
    handler: str | None = None
    handler_task_queue: str | None = None
    """Where the user's code runs; by default in the worker that runs the batch."""
    handler_activity: str | None = None
    """A Temporal activity in any language on that task queue, instead of a handler; its input is a `BatchSummary`."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    poll_waits: list[timedelta] | None = None
    max_age: timedelta | None = None
    max_cost: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    """US dollars. A batch whose estimate is above, or has no upper bound, is refused before anything is sent."""
    allow_unknown_model: bool = False
    on_ambiguous_submit: OnAmbiguousSubmit = OnAmbiguousSubmit.WAIT

    @model_validator(mode="after")
    def _one_way_to_be_handled(self) -> Self:
        if self.handler_activity is not None and self.handler is not None:
            raise ValueError("a batch has a `handler` or a `handler_activity`, not both")
        if self.handler_activity is not None and self.handler_task_queue is None:
            raise ValueError("a `handler_activity` needs the `handler_task_queue` of the worker that has it")
        return self


class BatchSpec(BatchOptions):
    """A whole batch, for clients that have no access to the database. Small ones: it travels in workflow history."""

    entries: list[SpecEntry] = Field(min_length=1)


class PollState(Payload):
    """What the poll loop remembers when a long history continues as new."""

    polls: int = 0
    waits: int = 0
    cancel_requested: bool = False
    cancel_sent: bool = False
    gave_up_at: datetime | None = None
    refusals: int = 0
    trouble: "Trouble | None" = None
    order: str | None = None
    """What somebody has ordered about the handler, which has not run yet."""


class StartPayload(Payload):
    """The argument of a workflow that anybody may start, and may start wrongly."""

    @model_validator(mode="wrap")
    @classmethod
    def _misshapen_fails(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Temporal tries a workflow whose argument cannot be decoded again for ever; only its own errors end it."""
        try:
            start = validate(value)
        except ValidationError as error:
            wrong: str | None = faults(error)
        else:
            wrong = start.misfit()
            if wrong is None:
                return start
        raise ApplicationError(f"This is no {cls.__name__}: {wrong}.", type="StartError", non_retryable=True)

    def misfit(self) -> str | None:
        """What is wrong although each field is right. A validator of a subclass would run outside of the one above."""
        return None


class BatchStart(StartPayload):
    """The argument of the `Batch` workflow: a batch that is in Postgres, or the spec of one that is not."""

    batch_id: UUID | None = None
    spec: BatchSpec | None = None
    resume: PollState | None = None

    def misfit(self) -> str | None:
        is_one = (self.batch_id is None) != (self.spec is None)
        return None if is_one else "start a Batch with either `batch_id` or `spec`"


class OpenRequest(Payload):
    """Claim a batch for the workflow that asks, and register it first where it came as a spec."""

    start: BatchStart
    workflow_id: str
    run_id: str
    """Of the first execution in the chain, so that a spec is registered once, however often it is asked."""


class Handled(Payload):
    """What a workflow must know of a batch or a campaign alike: who runs once it is over, and how it is shown."""

    provider: str
    model: str
    handler: str | None = None
    handler_task_queue: str | None = None
    handler_activity: str | None = None
    is_dispatched: bool = False
    """An earlier workflow got as far as that."""
    is_searchable: bool = False
    """Whether the namespace knows our search attributes. Decided once, by the worker that opens the batch or campaign,
    and recorded with its answer, so that a replay decides the same."""
    trouble_code: str | None = None
    """What kept an earlier workflow of it from going on."""

    @property
    def subject(self) -> Mapping[str, UUID]:
        """What is handled, as a `DispatchRequest` and a `Trouble` name it."""
        raise NotImplementedError

    @property
    def tasks_queue(self) -> str | None:
        """Where the Tasks are: beside the handler, but not beside an activity that may know nothing of them."""
        return None if self.handler_activity else self.handler_task_queue


class OpenBatch(Handled):
    """What the workflow must know of its batch in order to sequence it."""

    batch_id: UUID
    status: BatchStatus
    entry_count: int
    poll_waits: list[timedelta]
    max_age: timedelta
    submitted_at: datetime | None = None
    provider_batch_id: str | None = None
    cancel_requested: bool = False
    """Somebody asked before this workflow ran; no signal will come again for it."""
    uploads_first: bool = True
    """Whether the provider takes the input in a step of its own, before the create."""
    is_paced: bool = False
    """Its campaign says when it is submitted again, where the provider has no room for it."""

    @property
    def subject(self) -> Mapping[str, UUID]:
        """The batch."""
        return {"batch_id": self.batch_id}

    @property
    def schedule(self) -> PollSchedule:
        """When to poll."""
        return PollSchedule(waits=tuple(self.poll_waits), max_age=self.max_age)


class BatchRef(Payload):
    """A batch by its id."""

    batch_id: UUID


class PollRequest(Payload):
    """One look at the provider."""

    batch_id: UUID
    provider_batch_id: str | None = None
    """What the workflow takes the batch to be at the provider, as far as it has heard."""


class PollReport(Payload):
    """Where a batch stands. Fields come in order of interest: Temporal's UI previews the first 50 characters."""

    status: BatchStatus
    done: int = 0
    failed: int = 0
    total: int = 0
    reason: str | None = None
    submitted_at: datetime | None = None
    provider_batch_id: str | None = None
    resubmit: bool = False
    """The provider's queue was full: nothing ran, nothing was paid, and the batch is to be submitted again later."""


class ExpireRequest(Payload):
    """Max age has passed: ask the provider to cancel, and, when `final`, close the batch here whatever it answers."""

    batch_id: UUID
    final: bool = False


class IngestReport(Payload):
    """What came of the result lines: `lines` is the sum of the other counts but `without_line`."""

    lines: int
    accepted: int
    duplicates: int
    unknown: int
    malformed: int
    without_line: int
    results_lost: bool = False
    """The provider had more, and nobody can read it any more."""


class HydrateReport(Payload):
    """Entries per outcome, final, and what they cost in US dollars."""

    outcomes: dict[Outcome, int]
    cost: Decimal | None = None
    list_cost: Decimal | None = None


class DispatchRequest(Payload):
    """Run the handler of a batch or of a campaign, or, with `skip`, note that it shall not run."""

    batch_id: UUID | None = None
    campaign_id: UUID | None = None
    skip: bool = False


class DispatchReport(Payload):
    """Whether this call ran the handler; false when it had run already, when it is skipped, or when there is none."""

    ran: bool


class Trouble(Payload):
    """What keeps a step from succeeding. The workflow tells of it where no attempt of the step can, and is told of it
    where only the attempts know.
    """

    batch_id: UUID | None = None
    campaign_id: UUID | None = None
    code: str
    text: str
    kind: str = ""
    """The name of the error."""
    needs_attention: bool = True
    """Whether somebody must mend it; what is false is waited out."""


class CleanUpReport(Payload):
    """What was left over at the provider and is gone now."""

    files_deleted: int = 0
    orphans_canceled: int = 0


class BatchSummary(Payload):
    """The result of the `Batch` workflow, and what a `handler_activity` is called with."""

    batch_id: UUID
    status: BatchStatus
    outcomes: dict[Outcome, int]
    cost: Decimal | None = None
    list_cost: Decimal | None = None
    reason: str | None = None


class ProgressReport(Payload):
    """The answer to the `progress` query: how far the workflow has come, in its own words."""

    batch_id: UUID | None
    step: str
    status: BatchStatus
    polls: int
    done: int
    failed: int
    total: int
    next_poll_at: datetime | None
    cancel_requested: bool
    last_error: str | None
    """Of polls, cancels, and of a handler that nobody takes. Any other step is tried again by Temporal, which shows its
    failure itself; the batch's `trouble_code` names it as well."""


# The activities, as the workflow sees them. What runs is in `activities/`, under the same names and types.


@activity.defn(name="open_batch")
async def open_batch(request: OpenRequest) -> OpenBatch:
    """Claim the batch for this workflow; no entry can be added any more."""
    raise NotImplementedError


@activity.defn(name="upload_entries")
async def upload_entries(request: BatchRef) -> None:
    """Upload the input, where the provider has a step for that."""
    raise NotImplementedError


@activity.defn(name="create_provider_batch")
async def create_provider_batch(request: BatchRef) -> PollReport:
    """Create the provider batch, or adopt the one that an earlier attempt created."""
    raise NotImplementedError


@activity.defn(name="fetch_status")
async def fetch_status(request: PollRequest) -> PollReport:
    """One poll."""
    raise NotImplementedError


@activity.defn(name="cancel_batch")
async def cancel_batch(request: BatchRef) -> PollReport:
    """Ask the provider to cancel; where nothing was sent yet, cancel here."""
    raise NotImplementedError


@activity.defn(name="expire_batch")
async def expire_batch(request: ExpireRequest) -> PollReport:
    """Max age has passed."""
    raise NotImplementedError


@activity.defn(name="ingest_results")
async def ingest_results(request: BatchRef) -> IngestReport:
    """Stream the result lines into Postgres; afterwards every entry has exactly one outcome."""
    raise NotImplementedError


@activity.defn(name="hydrate_results")
async def hydrate_results(request: BatchRef) -> HydrateReport:
    """Turn responses into outputs."""
    raise NotImplementedError


@activity.defn(name="dispatch_handler")
async def dispatch_handler(request: DispatchRequest) -> DispatchReport:
    """Run the handler, once."""
    raise NotImplementedError


@activity.defn(name="report_trouble")
async def report_trouble(request: Trouble) -> None:
    """Note what keeps a batch waiting, and tell the notifiers, if it is news."""
    raise NotImplementedError


@activity.defn(name="clean_up")
async def clean_up(request: BatchRef) -> CleanUpReport:
    """Delete uploads that no provider batch uses, and cancel provider batches that no batch of ours owns."""
    raise NotImplementedError


def by_name(*stubs: Any) -> Mapping[str, Any]:
    """Activities' stubs, which have the names of the activities."""
    return {stub.__name__: stub for stub in stubs}


ACTIVITIES = by_name(
    open_batch,
    upload_entries,
    create_provider_batch,
    fetch_status,
    cancel_batch,
    expire_batch,
    ingest_results,
    hydrate_results,
    dispatch_handler,
    report_trouble,
    clean_up,
)
