"""What Anthropic's batch lines look like, in both directions: facts and pure functions, no connection."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from msgspec import Struct
from pydantic_core import from_json
from typing_extensions import TypedDict

from overnight.batches import Outcome, Usage
from overnight.errors import RequestError, ResponseError
from overnight.providers._anthropic_requests import messages_request
from overnight.providers._requests import check_body, check_prompt
from overnight.providers._values import (
    UNLIKE,
    Count,
    UnreadableLineError,
    as_list,
    as_object,
    as_text,
    clean,
    clean_code,
    count,
    quick_reader,
    read_line,
)
from overnight.providers._weights import Weighing
from overnight.providers.base import (
    RETRYABLE_HTTP,
    UNREADABLE_LINE,
    EntryLine,
    ForeignLineError,
    Limits,
    MalformedLineError,
    PlainLine,
    Prompt,
    RawToolCall,
    Response,
    ResultLine,
    UntoldTool,
)
from overnight.providers.weight import PROVIDER_TOOLS, RequestWeight

MESSAGES = "/v1/messages"
TOKEN_LENGTH = 8
CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,55}")
"""64 characters on the wire, less the token and its hyphen."""

OUTCOMES: Mapping[str, Outcome] = {
    "succeeded": Outcome.SUCCEEDED,
    "errored": Outcome.ERRORED,
    "canceled": Outcome.CANCELED,
    "expired": Outcome.EXPIRED,
}
REASONS: Mapping[Outcome, str] = {
    Outcome.CANCELED: "The batch was canceled before this entry was processed.",
    Outcome.EXPIRED: "The batch expired before this entry was processed.",
}

REFUSED: Mapping[str, str] = {
    "stream": "a batch cannot stream; leave it out",
    "speed": "a batch has no fast mode; leave it out",
    "store": "a batch takes no stored conversations; leave it out",
    "context_hint": "a batch takes no hints; leave it out",
    "cache_hint": "a batch takes no hints; leave it out",
}
TOKENS_PER_IMAGE = 4_800
"""Larger images are made smaller until they are 4,784 tokens at most, on Claude 4.7 and later, and 1,568 before
(provider's page on vision, September 2026; not measured here). The rest is room for what stands around an image."""
WEIGHING = Weighing(
    texts=("system", "messages"),
    schemas=("tools", "output_config"),
    limits=("max_tokens",),
    tokens_for_tools=346,  # of the system prompt that explains tools (provider's page on tool use, November 2026)
    references={"container": "files", "mcp_servers": PROVIDER_TOOLS},
    tokens_per_image=TOKENS_PER_IMAGE,
    cache_is_asked_for=True,
)
TRUNCATED = frozenset({"max_tokens", "model_context_window_exceeded", "pause_turn"})
"""`pause_turn` is where the provider's own tools took too long: the rest would have to be asked for in another turn."""

WITHOUT_FEE = frozenset({"web_fetch"})
"""Tools whose calls are billed by their tokens alone (provider's page on pricing, 2026)."""

HEAD, TAIL = b'{"requests":[', b"]}"
BEFORE, BETWEEN, AFTER = '{"custom_id":"', '","params":', "}"


def wire_id(custom_id: str, token: str) -> str:
    """The id as Anthropic sees it. There is no tag on a batch, so every entry carries whose it is."""
    return f"{custom_id}-{token}"


def own_id(value: Any, token: str) -> str:
    """The custom id in an id from the wire.

    Raises:
        ForeignLineError: the id does not end in our token, so its entry is not ours.
        MalformedLineError: it is no id.
    """
    if not isinstance(value, str):
        raise MalformedLineError("The line has no custom id.")
    custom_id = value.removesuffix(f"-{token}")
    if custom_id == value or not CUSTOM_ID.fullmatch(custom_id):
        raise ForeignLineError(clean(value, 100))
    return custom_id


def framed(lines: Sequence[EntryLine], token: str) -> bytes:
    """Some entries of the request body, without a comma at the end. Custom ids match our pattern: no escaping."""
    middle = f"-{token}{BETWEEN}"
    return ",".join([f"{BEFORE}{line.custom_id}{middle}{line.request}{AFTER}" for line in lines]).encode()


class AnthropicFacts:
    """Anthropic's side of `ProviderFacts`."""

    name = "anthropic"
    limits = Limits(max_entries=100_000, max_bytes=256_000_000, custom_id_pattern=CUSTOM_ID.pattern)
    endpoints: Sequence[str] = (MESSAGES,)
    uploads_first = False
    retryable_codes: Collection[str] = RETRYABLE_HTTP | {
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "timeout_error",
        "no_message",
    }
    queue_full_codes: Collection[str] = frozenset()  # a full queue answers the create with a 429
    frame_bytes = len(BEFORE + wire_id("", "x" * TOKEN_LENGTH) + BETWEEN + AFTER + ",")

    def supports_batch(self, model: str) -> bool:
        return model.startswith("claude-")

    def render(self, prompt: Prompt, *, model: str, endpoint: str) -> dict[str, Any]:  # noqa: ARG002 - there is one
        check_prompt(prompt, max_temperature=1)
        return {"model": model} | messages_request(prompt)

    def check(self, request: Mapping[str, Any], *, model: str, endpoint: str) -> None:  # noqa: ARG002 - there is one
        check_body(request, model=model, required=("messages", "max_tokens"), refused=REFUSED)
        max_tokens = request["max_tokens"]
        if type(max_tokens) is not int or max_tokens < 1:
            raise RequestError(f"max_tokens: {max_tokens!r} is not a whole number of at least 1.")

    def weigh(self, request: Mapping[str, Any], *, endpoint: str) -> RequestWeight:  # noqa: ARG002 - there is one
        return WEIGHING.weigh(request)

    def untold_tool(self, *, model: str, endpoint: str) -> UntoldTool | None:  # noqa: ARG002 - it tells all of them
        return None

    def wire_id(self, custom_id: str, token: str) -> str:
        return wire_id(custom_id, token)

    def inputs(self, request: Mapping[str, Any], *, endpoint: str) -> int:  # noqa: ARG002 - there are no embeddings
        return 1

    def read_plain(self, line: bytes, token: str) -> PlainLine | None:
        try:
            value = _read_plain(line)
        except UNLIKE:
            return None
        wire, own = value.custom_id, value.custom_id.removesuffix(f"-{token}")
        counts = _plain_counts(value.result.message.usage)
        return (own, *counts) if counts[0] and own != wire and CUSTOM_ID.fullmatch(own) else None

    def parse_line(self, line: bytes, token: str) -> ResultLine:
        try:
            value = read_line(line)
        except UnreadableLineError as error:
            custom_id = own_id(error.salvaged.get("custom_id"), token)
            message = as_object(as_object(error.salvaged.get("result")).get("message"))
            unreadable = _errored(custom_id, UNREADABLE_LINE, f"The line cannot be read: {error}.")
            # It was paid for all the same.
            usage, calls = _usage(as_object(message.get("usage"))), _provider_calls(message)
            return replace(unreadable, usage=usage, provider_calls=calls)
        return _result(own_id(value.get("custom_id"), token), as_object(value.get("result")))

    def read_response(self, line: bytes, *, endpoint: str) -> Response:  # noqa: ARG002 - there is one
        try:
            message = _answer_message(line)
        except ValueError as error:
            raise ResponseError(UNREADABLE_LINE, f"The line cannot be read: {clean(error)}.") from None
        if not isinstance(as_object(message).get("content"), list):
            raise ResponseError("no_content", "The message has no list of content blocks.")
        return _read_message(as_object(message))


class _PlainCreation(Struct, gc=False):
    ephemeral_1h_input_tokens: Count = 0


class _PlainOut(Struct, gc=False):
    thinking_tokens: Count = 0


class _PlainUsage(Struct, gc=False):
    input_tokens: Count
    output_tokens: Count
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: _PlainCreation | None = None
    output_tokens_details: _PlainOut | None = None
    server_tool_use: dict[str, Literal[0]] | None = None


class _PlainMessage(Struct, gc=False):
    usage: _PlainUsage
    container: None = None
    """There is one where code was run."""


class _PlainResult(Struct, gc=False):
    type: Literal["succeeded"]
    message: _PlainMessage


class _PlainLine(Struct, gc=False):
    custom_id: str
    result: _PlainResult


_read_plain = quick_reader(_PlainLine)


def _plain_counts(usage: _PlainUsage) -> tuple[int, int, int, int, int, int]:
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    kept, out = usage.cache_creation, usage.output_tokens_details
    return (
        usage.input_tokens + read + written,
        read,
        written,
        kept.ephemeral_1h_input_tokens if kept else 0,
        usage.output_tokens,
        out.thinking_tokens if out else 0,
    )


class _AnswerMessage(TypedDict, total=False):
    """All of a message that `_read_message` looks at."""

    content: Any
    stop_reason: Any
    usage: Any


class _AnswerResult(Struct, gc=False):
    message: _AnswerMessage


class _AnswerLine(Struct, gc=False):
    result: _AnswerResult


_read_answer = quick_reader(_AnswerLine)


def _answer_message(line: bytes) -> Any:
    try:
        return _read_answer(line).result.message
    except UNLIKE:
        return as_object(as_object(from_json(line, allow_inf_nan=False)).get("result")).get("message")


def _result(custom_id: str, result: Mapping[str, Any]) -> ResultLine:
    kind = as_text(result.get("type"))
    outcome = OUTCOMES.get(kind)
    if outcome is Outcome.SUCCEEDED:
        return _succeeded(custom_id, as_object(result.get("message")))
    if outcome is Outcome.ERRORED:
        # The error sits in an error answer, as the Messages API would have sent it.
        error = as_object(as_object(result.get("error")).get("error")) or as_object(result.get("error"))
        return _errored(custom_id, error.get("type"), error.get("message"))
    if outcome is None:
        return _errored(custom_id, "unknown_result", f"A result of the unknown type {clean(kind, 100)!r}.")
    return ResultLine(custom_id=custom_id, outcome=outcome, usage=Usage(), error_code=kind, reason=REASONS[outcome])


def _succeeded(custom_id: str, message: Mapping[str, Any]) -> ResultLine:
    usage = _usage(as_object(message.get("usage")))
    if not message:
        return _errored(custom_id, "no_message", "The result says that it succeeded, and has no message.")
    calls = _provider_calls(message)
    return ResultLine(custom_id=custom_id, outcome=Outcome.SUCCEEDED, usage=usage, provider_calls=calls)


def _provider_calls(message: Mapping[str, Any]) -> Mapping[str, int]:
    """Searches as they are billed, without those that failed; code that was run, which is billed by time."""
    used = as_object(as_object(message.get("usage")).get("server_tool_use"))
    calls = {key.removesuffix("_requests"): count(number) for key, number in used.items()}
    blocks = [as_object(block) for block in as_list(message.get("content"))]
    names = [as_text(block.get("name")) for block in blocks if block.get("type") == "server_tool_use"]
    calls["code_execution"] = sum("code_execution" in name for name in names)
    return {tool: number for tool, number in calls.items() if number and tool not in WITHOUT_FEE}


def _errored(custom_id: str, code: Any, reason: Any) -> ResultLine:
    """Anthropic bills errored, canceled and expired entries not at all, so there is no usage."""
    return ResultLine(
        custom_id=custom_id,
        outcome=Outcome.ERRORED,
        usage=Usage(),
        error_code=clean_code(code) or "error",
        reason=clean(reason),
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Their `input_tokens` leaves out what was read from or written to the cache; ours is the whole prompt."""
    read, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=count(as_object(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        reasoning_tokens=count(as_object(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _read_message(message: Mapping[str, Any]) -> Response:
    """Text blocks are joined with nothing between them: they are pieces of one answer (cut where a citation or a
    server tool begins), and a separator would break JSON that spans two of them. Thinking blocks are left out.
    """
    blocks = [as_object(block) for block in as_list(message.get("content"))]
    text = "".join(as_text(block.get("text")) for block in blocks if block.get("type") == "text")
    stop = as_text(message.get("stop_reason"))
    return Response(
        text=text,
        refusal=(text or "The model declined to answer.") if stop == "refusal" else None,
        truncated=stop in TRUNCATED,
        finish_reason=stop or None,
        provider_calls=_provider_calls(message),
        tool_calls=[
            RawToolCall(id=as_text(block.get("id")), name=as_text(block.get("name")), arguments=block.get("input"))
            for block in blocks
            if block.get("type") == "tool_use"
        ],
    )
