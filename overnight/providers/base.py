"""What every provider adapter is: one file of facts behind this Protocol.

An adapter knows one wire format. It renders requests, frames them as the provider wants them, moves bytes in both
directions without holding a batch in memory, and translates the provider's words into ours. It decides nothing about
when to call what, touches no database, and never retries: whether an error is worth another try is written on the
error (`overnight.providers._faults`), and who tries again is Temporal.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from overnight.batches import BatchStatus, Outcome, Progress, Usage
from overnight.content import Message
from overnight.provider_tools import ProviderTool
from overnight.providers.weight import RequestWeight


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a provider takes in one batch.

    Attributes:
        max_entries: entries in one batch.
        max_bytes: bytes of the input as it is sent, framing included.
        custom_id_pattern: a regular expression that a custom id must match as a whole. Where the adapter adds a
            submission token on the wire, the pattern leaves room for it.
        max_inputs: inputs in one batch, where a request can hold several.
    """

    max_entries: int
    max_bytes: int
    custom_id_pattern: str
    max_inputs: int | None = None


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """What a model is told of a tool: the JSON Schema is that of its arguments, as an object."""

    name: str
    description: str | None
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a Task wants to be asked, in no provider's form.

    Attributes:
        output_schema: JSON Schema of the structured output; None for plain text. What a provider makes of it is kept
            for as long as it is the same object, so it must not be changed.
        tool_choice: "auto", "required", "none", or the name of the tool that must be called.
    """

    messages: Sequence[Message]
    system: str | None = None
    output_schema: Mapping[str, Any] | None = None
    output_name: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Sequence[str] | None = None
    reasoning_effort: str | None = None
    tools: Sequence[ToolSpec] = ()
    tool_choice: str = "auto"
    provider_tools: Sequence[ProviderTool] = ()


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One attempt to hand a batch to a provider; it outlives the process that makes it.

    Attributes:
        number: 1, 2, ... within the batch.
        token: 8 characters of [a-z0-9] that follow from batch and number. It marks what is ours at the provider: in
            metadata where there is such a thing, else as a suffix of every custom id on the wire.
        request_bytes: bytes of all custom ids and requests together, without framing.
        file_id: the provider's id of the uploaded input, where uploading is a step of its own.
        marker: the newest batch at the provider before the first create was sent, for providers without tags.
        started_at: when the intent to create was recorded; None while nothing can have been sent.
    """

    batch_id: UUID
    number: int = 1
    token: str
    model: str
    endpoint: str
    entry_count: int
    request_bytes: int
    file_id: str | None = None
    marker: str | None = None
    started_at: datetime | None = None


class EntryLine(NamedTuple):
    """One entry as it leaves the database: its custom id, and the provider's body as JSON text."""

    custom_id: str
    request: str


EntryLines = Callable[[], AsyncIterator[Sequence[EntryLine]]]
"""Starts a fresh pass over the batch's entries in pages, in the order in which they were added."""


@dataclass(frozen=True, kw_only=True)
class ProviderReport:
    """The provider's view of a batch, in our words.

    Attributes:
        status_word: the provider's own word, for logs and people.
        details: what the adapter needs later in order to find the results; JSON values only.
        line_count: how many result lines there are at the least, going by the provider's counts; 0 where these say
            nothing.
        lines_before: how many of them are read before the first line of a source, for sources that are not the first.
        failure_code: the provider's code when the batch as a whole was refused or broke.
    """

    provider_batch_id: str
    status: BatchStatus
    status_word: str
    progress: Progress
    details: Mapping[str, Any] = field(default_factory=dict)
    line_count: int = 0
    lines_before: Mapping[str, int] = field(default_factory=dict)
    failure_code: str | None = None
    failure_reason: str | None = None


class Undecided:
    """`find` saw batches that could be ours, and nothing yet that proves it or rules it out."""


@dataclass(frozen=True, kw_only=True)
class ResultPosition:
    """How far the result lines are committed.

    Attributes:
        source: which of the provider's result files.
        offset: bytes of that file, always at the end of a line. A result file can be shown shorter than it is, or grow,
            for a while after the batch's end; what is there once never changes.
    """

    source: str = ""
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class LineBlock:
    """Some consecutive lines of one result file, without their line ends, and the position behind them.

    Attributes:
        is_ascii: whether it is known that all lines are ASCII.
    """

    lines: Sequence[bytes]
    position: ResultPosition
    is_ascii: bool = False


def is_utf8(text: bytes) -> bool:
    """Whether Postgres takes it as text, and a quick reader may skip what it does not look at."""
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


PlainLine = tuple[str, int, int, int, int, int, int]
"""What there is to know of a line that succeeded: its custom id, and the counts of `Usage` in their order."""


class MalformedLineError(ValueError):
    """A result line that names no entry of ours: not JSON, not an object, or without a usable custom id."""


class ForeignLineError(MalformedLineError):
    """A result line that is in order, for an entry that is not of this submission."""

    def __init__(self, custom_id: str | None) -> None:
        super().__init__("The line has no custom id of this submission.")
        self.custom_id = custom_id


UNREADABLE_LINE = "unreadable_line"
"""The error code of an entry whose line is no JSON, and names it all the same."""


@dataclass(frozen=True, kw_only=True)
class ResultLine:
    """What one result line says about its entry, before any Task has seen the response."""

    custom_id: str
    """Ours: the submission token is taken off."""
    outcome: Outcome
    usage: Usage
    error_code: str | None = None
    reason: str | None = None
    provider_calls: Mapping[str, int] = field(default_factory=dict)
    """How often the provider ran a tool of its own that may have a fee, by the provider's name for it."""

    @property
    def is_counted(self) -> bool:
        """Whether what it costs can be known. There is no answer to an empty prompt: one without tokens was not
        counted, by a server that leaves them out, and was not free. Nor may one be whose line cannot be read.
        """
        is_free = self.outcome is not Outcome.SUCCEEDED and self.error_code != UNREADABLE_LINE
        return is_free or self.usage.input_tokens > 0

    def with_untold(self, tools: Collection[str]) -> "ResultLine":
        """With one call of each of these tools, if anything was run for the entry at all."""
        if not tools or (self.outcome is not Outcome.SUCCEEDED and self.usage == Usage()):
            return self
        return replace(self, provider_calls={**self.provider_calls, **dict.fromkeys(tools, 1)})


@dataclass(frozen=True, kw_only=True)
class RawToolCall:
    """A call that the model wants made. `arguments` is the parsed JSON, or the text when it is not JSON."""

    id: str
    name: str
    arguments: Any


@dataclass(frozen=True, kw_only=True)
class Response:
    """A model's answer in no provider's form.

    Attributes:
        text: the answer's text, reasoning left out; empty when there is none.
        refusal: the model's or provider's words when it declined.
        truncated: the answer was cut off by a token limit.
        finish_reason: the provider's own word.
        embedding: the vector, from embeddings endpoints.
        provider_calls: how often the provider ran a tool of its own that may have a fee, by its name for it.
    """

    text: str = ""
    refusal: str | None = None
    truncated: bool = False
    finish_reason: str | None = None
    tool_calls: Sequence[RawToolCall] = ()
    embedding: Sequence[float] | None = None
    provider_calls: Mapping[str, int] = field(default_factory=dict)


RETRYABLE_HTTP = frozenset({"http_0", "http_408", "http_409", "http_425", "http_429"}) | {
    f"http_{status}" for status in range(500, 600)
}
"""Codes of entries that were answered with a bare HTTP status that another try may heal."""


@dataclass(frozen=True, kw_only=True)
class UntoldTool:
    """A tool of the provider's that has a fee, and whose calls no answer tells. An answer counts as one call.

    Attributes:
        name: the key of a request that lets it run; a fee is asked for by that name too.
        always: whether the model runs it for each request.
    """

    name: str
    always: bool

    def may_run(self, request: Mapping[str, Any]) -> bool:
        """Whether it can have run for this request."""
        return self.always or request.get(self.name) is not None


class ProviderFacts(Protocol):
    """What is to be known of a provider without a key and without a connection."""

    name: str
    limits: Limits
    endpoints: Sequence[str]
    """The endpoints that a batch can address; the first is the default."""
    frame_bytes: int
    """The most bytes that framing adds to one entry, line end included."""
    uploads_first: bool
    """Whether the input goes up in a step of its own, before the create; else it travels with the create."""
    queue_full_codes: Collection[str]
    """Failure codes that mean: nothing ran, there was no room for the batch, submit it again later."""
    retryable_codes: Collection[str]
    """Error codes of entries that another try may heal: not the request was at fault."""

    def supports_batch(self, model: str) -> bool:
        """Whether the provider takes this model in a batch."""
        ...

    def render(self, prompt: Prompt, *, model: str, endpoint: str) -> dict[str, Any]:
        """The provider's request body for a prompt.

        Raises:
            RequestError: the provider could not take it, with the field that it could not.
        """
        ...

    def check(self, request: Mapping[str, Any], *, model: str, endpoint: str) -> None:
        """Refuse a ready-made body that the provider would refuse, or that names another model.

        Raises:
            RequestError: with the field at fault.
        """
        ...

    def weigh(self, request: Mapping[str, Any], *, endpoint: str) -> RequestWeight:
        """What a request that was rendered or checked here will be read and billed as, roughly."""
        ...

    def untold_tool(self, *, model: str, endpoint: str) -> UntoldTool | None:
        """What answers of this model and endpoint keep to themselves."""
        ...

    def wire_id(self, custom_id: str, token: str) -> str:
        """How an entry is called at the provider; `parse_line` takes the token off again."""
        ...

    def inputs(self, request: Mapping[str, Any], *, endpoint: str) -> int:
        """How many inputs a request that was checked holds; one, but for lists of texts to embed."""
        ...

    def read_plain(self, line: bytes, token: str) -> PlainLine | None:
        """What `parse_line` says of this line, several times as fast, or None where only `parse_line` can tell.

        A line is plain when it succeeded, its tokens are counted, and nothing about it is out of the ordinary. It must
        not have odd bytes.
        """
        ...

    def parse_line(self, line: bytes, token: str) -> ResultLine:
        """What a result line says about its entry.

        Raises:
            MalformedLineError: the line names no entry. A line that names one is never malformed: whatever else is
                odd about it is that entry's `errored` outcome.
        """
        ...

    def read_response(self, line: bytes, *, endpoint: str) -> Response:
        """The model's answer in a line that `parse_line` called `succeeded`.

        Raises:
            ResponseError: the body is not what the endpoint returns.
        """
        ...


def untold_by(facts: ProviderFacts, request: Mapping[str, Any], *, model: str, endpoint: str) -> Sequence[str]:
    """The tools that may run for a request without its answer telling."""
    tool = facts.untold_tool(model=model, endpoint=endpoint)
    return [tool.name] if tool is not None and tool.may_run(request) else []


class Provider(ProviderFacts, Protocol):
    """One provider's batch API.

    The methods that talk raise `TransientProviderError`, `PermanentProviderError` or `AmbiguousProviderError`, the
    last only from `create`.
    """

    async def upload(self, submission: Submission, lines: EntryLines) -> str | None:
        """Upload the input and return the provider's file id, or None where `create` carries the entries itself."""
        ...

    async def uploads(self, batch_id: UUID, since: datetime) -> Sequence[str]:
        """The files of ours for this batch that are at the provider, made after a moment."""
        ...

    async def delete_upload(self, file_id: str) -> None:
        """Delete an uploaded file; one that is gone already is no error."""
        ...

    async def forget(self, provider_batch_id: str, uploads: Collection[str]) -> None:
        """Delete what the provider keeps of a batch that is over and read: its input, its results, and the batch where
        batches can be deleted. What is gone already is no error.
        """
        ...

    async def probe(self) -> datetime | None:
        """Make sure, with a call that costs nothing, that the provider is there and takes the key; what time it is
        there, where it says so.
        """
        ...

    async def newest(self) -> str | None:
        """The marker to keep before the first create; None where batches can be tagged, or where there are none."""
        ...

    async def create(self, submission: Submission, lines: EntryLines) -> ProviderReport:
        """Create the provider batch: the call that costs money. It is sent once, whatever the answer.

        `lines` are run through to their end before the request is whole, also by adapters that uploaded them before:
        an error at their end means that this create must not happen any more.
        """
        ...

    async def find(self, submission: Submission, *, claimed: Collection[str] = ()) -> ProviderReport | Undecided | None:
        """Look for the batch that an earlier `create` of this submission may have made; None when there is none.

        Args:
            submission: what was to be created.
            claimed: provider batches that other batches of ours own, which are never candidates.
        """
        ...

    async def fetch(self, provider_batch_id: str) -> ProviderReport:
        """One look at the batch."""
        ...

    async def cancel(self, provider_batch_id: str) -> ProviderReport:
        """Ask for the batch to be canceled; the provider takes its time. A batch that is over stays as it is."""
        ...

    async def answer(self, line: EntryLine, *, endpoint: str, token: str) -> bytes:
        """Have one entry answered now, by the endpoint itself and at its full price; it is sent once.

        Returns:
            The result line that a batch would have given for it.

        Raises:
            AmbiguousProviderError: it was sent and no answer came; it may be paid for.
        """
        ...

    def results(
        self, report: ProviderReport, position: ResultPosition, *, as_is: bool = False
    ) -> AsyncIterator[LineBlock]:
        """Stream the result lines behind a position: every result file that exists, in any terminal status.

        Args:
            report: of a fresh look at the batch.
            position: how far they are read already.
            as_is: take what there is, because nothing more is expected.

        Raises:
            IncompleteResultsError: unless taken as it is: a file is missing, ends within a line, or is shorter than
                what was read of it. Whole lines before that place come first.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
