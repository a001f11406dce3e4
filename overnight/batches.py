"""What a batch and an entry are: frozen values and the words for their states, no I/O."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_json

from overnight.errors import NoOutputError
from overnight.schedule import PollSchedule

OutputT = TypeVar("OutputT")
ModelT = TypeVar("ModelT", bound=BaseModel)


class BatchStatus(StrEnum):
    """Where a batch stands. The last four are terminal; only `ended` is success."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    IN_PROGRESS = "in_progress"
    ENDED = "ended"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final; the first terminal status that is written wins."""
        return self in TERMINAL

    @property
    def is_success(self) -> bool:
        """Whether results could be had, though every single entry may have failed."""
        return self is BatchStatus.ENDED


TERMINAL = frozenset({BatchStatus.ENDED, BatchStatus.CANCELED, BatchStatus.EXPIRED, BatchStatus.FAILED})


class Outcome(StrEnum):
    """What became of one entry. Every entry of a finished batch has exactly one."""

    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    CANCELED = "canceled"
    EXPIRED = "expired"
    MISSING = "missing"
    """The batch is over and the provider gave no line for the entry."""
    INVALID = "invalid"
    """Answered, but refused, cut off, or not fitting the Task's output type."""


RETRIED = frozenset({Outcome.ERRORED, Outcome.EXPIRED, Outcome.CANCELED, Outcome.MISSING})
"""What a retry takes unless told otherwise: the entries that were not answered."""


class OnAmbiguousSubmit(StrEnum):
    """What to do when it cannot be known yet whether a create made a provider batch."""

    WAIT = "wait"
    """Until it is certain, up to a day on providers without tags. The only choice that cannot pay twice."""
    FAIL = "fail"
    """Fail the batch. What may have been created is looked for and canceled."""
    RESUBMIT = "resubmit"
    """Create again, knowing that both may be paid for. The first one is looked for and canceled."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The provider's own counts while a batch runs. Anthropic reports no progress before the end."""

    total: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens as billed, in one form for all providers.

    `input_tokens` is the whole prompt, cached parts included; `output_tokens` is the whole answer, reasoning included.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour, at twice the price."""
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """US dollars, exact. None where the model's price is not known, or the fee of a tool that the provider ran.

    That of a batch is None, too, where the provider may have billed what nobody could read.
    """

    billed: Decimal | None
    """At the batch rate."""
    list_price: Decimal | None
    """What the same tokens would have cost without batching."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch, as the database knew it at the time of reading."""

    id: UUID
    provider: str
    model: str
    endpoint: str
    status: BatchStatus
    handler: str | None
    handler_task_queue: str | None
    handler_activity: str | None = None
    """The Temporal activity that is run instead of a handler class; see `handler_task_queue`."""
    parent_batch_id: UUID | None = None
    """The batch whose handler, retry or round created this one."""
    campaign_id: UUID | None = None
    number: int | None = None
    """1, 2, ... within its campaign."""
    round: int | None = None
    """Of its campaign: which time its entries are asked."""
    max_cost: Decimal | None = None
    """US dollars: a batch whose estimate is above is not submitted."""
    metadata: Mapping[str, Any]
    schedule: PollSchedule
    on_ambiguous_submit: OnAmbiguousSubmit = OnAmbiguousSubmit.WAIT
    created_at: datetime
    sealed_at: datetime | None
    """When the batch was handed over to be submitted; no entry can be added after that."""
    submitted_at: datetime | None
    """When the provider accepted it."""
    ended_at: datetime | None
    """When it became terminal."""
    ingested_at: datetime | None
    hydrated_at: datetime | None
    handler_dispatched_at: datetime | None
    pruned_at: datetime | None = None
    """When its prompts and responses were deleted."""
    results_lost_at: datetime | None = None
    """When results were given up that the provider had and nobody can read any more."""
    cancel_requested_at: datetime | None
    workflow_id: str | None
    provider_batch_id: str | None
    provider_details: Mapping[str, Any]
    """What the adapter needs in order to find the results: file ids and the like."""
    progress: Progress
    entry_count: int
    request_bytes: int
    input_count: int = 0
    """More than entries where a request embeds several texts."""
    outcomes: Mapping[Outcome, int]
    """Entries per outcome; empty until the results are ingested."""
    retried: Mapping[Outcome, int] = field(default_factory=dict)
    """Those among them that a later round of its campaign asked again."""
    usage: Usage
    cost: Cost
    price_version: str | None = None
    """Which prices the costs come from."""
    failure_code: str | None
    failure_reason: str | None
    last_error: str | None
    """The newest failure of a step of ours, in full; it may quote entries."""
    trouble_code: str | None = None
    """What keeps a step from succeeding, as long as something does: a provider's code, or an error of ours."""
    trouble_since: datetime | None = None

    @property
    def waited(self) -> timedelta | None:
        """From the provider's acceptance to the terminal status."""
        return self.ended_at - self.submitted_at if self.ended_at and self.submitted_at else None


@dataclass(frozen=True, kw_only=True)
class BatchFilter:
    """Which batches are wanted: those that meet every condition that is given.

    Attributes:
        statuses: with one of these statuses.
        created_since: created at this moment or later.
        parent: made by a retry, a round or the handler of this batch.
        unfinished: handed over, and the handler has not run yet.
        needs_attention: something keeps the batch from going on: a step fails, its submission is in doubt, or no
            workflow has begun to look after it. Or its results are lost, until they are asked for again or pruned.
    """

    statuses: Collection[BatchStatus] = ()
    provider: str | None = None
    model: str | None = None
    handler: str | None = None
    created_since: datetime | None = None
    parent: UUID | None = None
    unfinished: bool = False
    needs_attention: bool = False


ANY_BATCH = BatchFilter()


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call of a Task's tool that an answer asked for, with what came of it.

    Attributes:
        id: the provider's, or empty.
        arguments: as JSON: those that the tool knows, or, where they do not fit, what the model wrote.
        result: what the tool returned, as JSON.
        error_code: `unknown_tool`, `invalid_arguments`, `failed` (it raised), or `not_run` (something else about the
            answer was wrong, so none of its tools ran).
        error: the same for people.
    """

    id: str
    name: str
    arguments: Any = None
    result: Any = None
    error_code: str | None = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the tool ran and returned."""
        return self.error_code is None

    def parsed(self, tool: type[ModelT]) -> ModelT:
        """The arguments of a tool that is a class, as an instance of it.

        Raises:
            pydantic.ValidationError: they do not fit; see `error_code`.
        """
        return tool.model_validate_json(to_json(self.arguments))


@dataclass(frozen=True, kw_only=True)
class Entry(Generic[OutputT]):
    """One entry with what came of it.

    Attributes:
        task: the Task it was made from, or None for an entry that was added as a raw request.
        output_or_none: what the Task made of the response; None when the entry did not succeed, or was added as a raw
            request.
        error_code: the provider's code, or ours for `invalid` and `missing`.
        reason: why it did not succeed, for people.
        response: the provider's result line as it was received.
        tool_calls: what the answer asked to be called, in its order.
        earlier: what came of it in earlier rounds of its campaign, the first one first. All of them were paid for.
    """

    custom_id: str
    outcome: Outcome | None
    task: Any = None
    output_or_none: OutputT | None = None
    error_code: str | None = None
    reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = Cost(billed=None, list_price=None)
    response: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    earlier: "Sequence[Entry[OutputT]]" = ()

    @property
    def attempts(self) -> "Sequence[Entry[OutputT]]":
        """Every time that it was asked, this one last."""
        return [*self.earlier, self]

    @property
    def succeeded(self) -> bool:
        """Whether there is an answer, and, where there is a Task, an output or tool calls."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def output(self) -> OutputT:
        """What the Task made of the response.

        Raises:
            NoOutputError: the entry did not succeed, has no Task, or was answered with tool calls alone; see
                `succeeded`, `reason` and `tool_calls`.
        """
        if self.output_or_none is None and (not self.succeeded or self.task is None or self.tool_calls):
            calls = "it was answered with tool calls alone" if self.succeeded and self.tool_calls else None
            raise NoOutputError(self.custom_id, self.outcome, self.reason or calls)
        return cast("OutputT", self.output_or_none)  # None where the Task's output type has it as a value
