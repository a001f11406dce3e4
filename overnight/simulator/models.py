"""The neutral question and answer that a `Responder` sees: the same for every provider and endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal, Protocol, runtime_checkable

Provider = Literal["openai", "anthropic"]
ProviderTool = Literal["web_search", "code_execution"]
ErrorKind = Literal["invalid_request", "rate_limit", "overloaded", "server", "timeout", "content_filter"]


class _NoValue:
    """Marks a reply without a structured value: None is a value that a schema may ask for."""

    def __repr__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final = _NoValue()


@dataclass(frozen=True, kw_only=True)
class Message:
    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Tool:
    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelError:
    """The provider's answer to one entry is an error."""

    kind: ErrorKind = "server"
    message: str = "The server had an error while processing your request."
    status: int | None = None
    """Overrides the HTTP status that goes with the kind, on OpenAI's lines; 0 has been seen in the wild."""


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    provider: Provider
    endpoint: str
    model: str
    custom_id: str | None
    """None for a request outside any batch."""
    messages: tuple[Message, ...] = ()
    system: str = ""
    schema: Mapping[str, Any] | None = None
    """The JSON schema that the answer must fit, whatever the provider calls that option."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of the tool that must be called."""
    provider_tools: tuple[ProviderTool, ...] = ()
    """Tools that the provider runs itself."""
    attachments: tuple[str, ...] = ()
    """The media types of images and files, in their order; `url` for one that the provider would fetch."""
    inputs: tuple[str, ...] = ()
    """The texts to embed; empty on every other endpoint."""
    dimensions: int = 1536
    max_tokens: int | None = None
    body: Mapping[str, Any]
    """The provider's body for this entry, as received."""
    rng: Random
    """Seeded from the simulator's seed and the custom_id: use this and no other source of chance."""
    input_tokens: int

    @property
    def prompt(self) -> str:
        """What the user said, without system text and earlier answers."""
        return "\n".join(m.text for m in self.messages if m.role == "user")


@dataclass(frozen=True, kw_only=True)
class ModelReply:
    """One of text, value, refusal or error; the first that is set, from the bottom up, is sent. Tool calls are sent
    behind a text or instead of it.
    """

    text: str | None = None
    value: Any = NO_VALUE
    """A structured answer; sent as JSON text, as the providers do."""
    tool_calls: tuple[ToolCall, ...] = ()
    provider_calls: tuple[ProviderTool, ...] = ()
    """Calls that the provider made itself before it answered."""
    refusal: str | None = None
    error: ModelError | None = None
    embeddings: tuple[tuple[float, ...], ...] = ()
    cut_off: bool = False
    """Answer as if the token budget had run out here."""
    uncut: bool = False
    """Send all of it, whatever the token budget."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """Set these to report other counts than the approximation in `tokens`."""


@runtime_checkable
class Responder(Protocol):
    """Answers one request. Runs in a worker thread, one call at a time per batch; an exception becomes a
    server error on that entry alone.
    """

    def __call__(self, request: ModelRequest, /) -> ModelReply: ...


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One answered entry, in the provider's words, with what it is billed for."""

    status: int
    body: dict[str, Any] = field(repr=False)
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300
