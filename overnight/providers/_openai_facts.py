"""What OpenAI's batch lines look like, in both directions: facts and pure functions, no connection."""

import base64
import logging
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from pydantic_core import from_json
from typing_extensions import TypedDict

from overnight.batches import BatchStatus, Outcome, Usage
from overnight.errors import RequestError, ResponseError
from overnight.log_events import LogEvent
from overnight.providers._openai_requests import chat_request, embeddings_request, responses_request
from overnight.providers._openai_tools import chat_search, told_calls, words_of
from overnight.providers._openai_weights import weigh_chat, weigh_embeddings, weigh_responses
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
from overnight.providers.base import (
    RETRYABLE_HTTP,
    UNREADABLE_LINE,
    EntryLine,
    Limits,
    MalformedLineError,
    PlainLine,
    Prompt,
    RawToolCall,
    Response,
    ResultLine,
    UntoldTool,
)
from overnight.providers.weight import RequestWeight

logger = logging.getLogger(__name__)

RESPONSES, CHAT, EMBEDDINGS = "/v1/responses", "/v1/chat/completions", "/v1/embeddings"

STATUSES: Mapping[str, BatchStatus] = {
    "validating": BatchStatus.SUBMITTED,
    "in_progress": BatchStatus.IN_PROGRESS,
    "finalizing": BatchStatus.IN_PROGRESS,
    "cancelling": BatchStatus.IN_PROGRESS,
    "completed": BatchStatus.ENDED,
    "cancelled": BatchStatus.CANCELED,
    "expired": BatchStatus.EXPIRED,
    "failed": BatchStatus.FAILED,
}

OUTCOMES: Mapping[str | None, Outcome] = {"batch_expired": Outcome.EXPIRED, "batch_cancelled": Outcome.CANCELED}
"""By the code of a line's error; every other code is `errored`."""

NEVER_BATCHED = frozenset({"realtime", "audio", "image", "transcribe", "tts", "whisper", "dall", "sora", "live"})
"""Parts of model names whose endpoints are not among ours. Only what is certain: a wrong no stops work for nothing."""

REFUSED_EVERYWHERE: Mapping[str, str] = {
    "stream": "a batch cannot stream; leave it out",
    "background": "a batch runs in the background by itself; leave it out",
}
MAX_INPUTS = 2_048
"""Of one embeddings request (API reference, 2026)."""
REQUIRED: Mapping[str, Sequence[str]] = {RESPONSES: (), CHAT: ("messages",), EMBEDDINGS: ("input",)}

WEIGHERS: Mapping[str, Callable[[Mapping[str, Any]], RequestWeight]] = {
    RESPONSES: weigh_responses,
    CHAT: weigh_chat,
    EMBEDDINGS: weigh_embeddings,
}

CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def status_of(word: str) -> BatchStatus:
    """Our word for theirs. An unknown one is not terminal: giving up on a batch that runs would lose what it costs."""
    status = STATUSES.get(word.lower())
    if status is None:
        logger.warning(
            "Unknown status %r of an OpenAI batch; it counts as in progress.",
            word[:100],
            extra={"event": LogEvent.STATUS_UNKNOWN},
        )
    return status or BatchStatus.IN_PROGRESS


def frame(endpoint: str) -> tuple[str, str, str]:
    """What stands before, between and after a custom id and a request in one line of the input file."""
    return '{"custom_id":"', f'","method":"POST","url":"{endpoint}","body":', "}\n"


def framed(lines: Sequence[EntryLine], endpoint: str) -> bytes:
    """Some lines of the input file. Custom ids match our pattern, so they need no escaping."""
    before, between, after = frame(endpoint)
    return "".join([f"{before}{line.custom_id}{between}{line.request}{after}" for line in lines]).encode()


class OpenAIFacts:
    """OpenAI's side of `ProviderFacts`."""

    name = "openai"
    limits = Limits(max_entries=50_000, max_bytes=200_000_000, custom_id_pattern=CUSTOM_ID.pattern, max_inputs=50_000)
    endpoints: Sequence[str] = (RESPONSES, CHAT, EMBEDDINGS)
    uploads_first = True
    # Too many enqueued tokens: the batch is taken, and then fails while it is validated (providers' pages, 2026).
    queue_full_codes: Collection[str] = frozenset({"token_limit_exceeded"})
    # The codes of the live API's 429 and 5xx, which are also those of generations that broke later.
    retryable_codes: Collection[str] = RETRYABLE_HTTP | {
        "rate_limit_exceeded",
        "server_error",
        "internal_error",
        "internal_server_error",
        "service_unavailable",
        "timeout",
        "response_failed",
        "no_body",
    }
    frame_bytes = max(len("".join(frame(endpoint))) for endpoint in (RESPONSES, CHAT, EMBEDDINGS))

    def supports_batch(self, model: str) -> bool:
        return NEVER_BATCHED.isdisjoint(words_of(model))

    def render(self, prompt: Prompt, *, model: str, endpoint: str) -> dict[str, Any]:
        check_prompt(prompt, max_temperature=2)
        make = {CHAT: chat_request, RESPONSES: responses_request, EMBEDDINGS: embeddings_request}[endpoint]
        return {"model": model} | make(prompt)

    def check(self, request: Mapping[str, Any], *, model: str, endpoint: str) -> None:
        check_body(request, model=model, required=REQUIRED[endpoint], refused=REFUSED_EVERYWHERE)
        # A stored prompt or an earlier response can take the place of the input.
        if endpoint == RESPONSES and not any(request.get(key) for key in ("input", "prompt", "previous_response_id")):
            raise RequestError("input: the endpoint needs it, and the request has none.")
        if (number := self.inputs(request, endpoint=endpoint)) > MAX_INPUTS:
            raise RequestError(f"input: OpenAI embeds at most {MAX_INPUTS:,} in one request, and there are {number:,}.")

    def inputs(self, request: Mapping[str, Any], *, endpoint: str) -> int:
        """A list of tokens is one input, a list of texts or of lists of tokens is several."""
        given = request.get("input") if endpoint == EMBEDDINGS else None
        return len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1

    def weigh(self, request: Mapping[str, Any], *, endpoint: str) -> RequestWeight:
        return WEIGHERS[endpoint](request)

    def untold_tool(self, *, model: str, endpoint: str) -> UntoldTool | None:
        return chat_search(model) if endpoint == CHAT else None

    def wire_id(self, custom_id: str, token: str) -> str:  # noqa: ARG002 - the token is in the batch's metadata
        return custom_id

    def read_plain(self, line: bytes, token: str) -> PlainLine | None:  # noqa: ARG002 - as in `parse_line`
        try:
            value = _read_plain(line)
        except UNLIKE:
            return None
        counts, custom_id = _plain_counts(value.response.body.usage), value.custom_id
        return (custom_id, *counts) if counts[0] and CUSTOM_ID.fullmatch(custom_id) else None

    def parse_line(self, line: bytes, token: str) -> ResultLine:  # noqa: ARG002 - the token is in the batch's metadata
        try:
            value = read_line(line)
        except UnreadableLineError as error:
            body = as_object(as_object(error.salvaged.get("response")).get("body"))
            usage = _usage(as_object(body.get("usage")))  # what cannot be read was paid for all the same
            result = _errored(_custom_id(error.salvaged), UNREADABLE_LINE, f"The line cannot be read: {error}.", usage)
            return replace(result, provider_calls=told_calls(body))
        body = as_object(as_object(value.get("response")).get("body"))
        return replace(_result(_custom_id(value), value), provider_calls=told_calls(body))

    def read_response(self, line: bytes, *, endpoint: str) -> Response:
        try:
            body = _answer_body(line)
        except ValueError as error:
            raise ResponseError(UNREADABLE_LINE, f"The line cannot be read: {clean(error)}.") from None
        if not isinstance(body, dict):
            raise ResponseError("no_body", "The result has no response body.")
        if endpoint == EMBEDDINGS:
            return _read_embedding(body)
        return _read_chat(body) if endpoint == CHAT else _read_responses(body)


class _PlainInto(Struct, gc=False):
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    cache_write_tokens_details: None = None


class _PlainOut(Struct, gc=False):
    reasoning_tokens: Count = 0


class _PlainUsage(Struct, gc=False):
    """Responses or, where the second half has the totals, chat and embeddings."""

    input_tokens: Count | UnsetType = UNSET
    input_tokens_details: _PlainInto | None = None
    output_tokens: Count = 0
    output_tokens_details: _PlainOut | None = None
    prompt_tokens: Count = 0
    prompt_tokens_details: _PlainInto | None = None
    completion_tokens: Count = 0
    completion_tokens_details: _PlainOut | None = None


class _PlainItem(Struct, gc=False):
    """What the model wrote itself; another item may have a fee."""

    type: Literal["message", "reasoning", "function_call", "custom_tool_call"]


class _PlainBody(Struct, gc=False):
    usage: _PlainUsage
    status: Literal["completed", "incomplete"] = "completed"
    output: list[_PlainItem] = []


class _PlainResponse(Struct, gc=False):
    status_code: Annotated[int, Meta(ge=200, lt=300)]
    body: _PlainBody


class _PlainLine(Struct, gc=False):
    custom_id: str
    response: _PlainResponse
    error: None = None


_read_plain = quick_reader(_PlainLine)


def _plain_counts(usage: _PlainUsage) -> tuple[int, int, int, int, int, int]:
    spent = usage.input_tokens
    if spent is UNSET:
        spent, made = usage.prompt_tokens, usage.completion_tokens
        into, out = usage.prompt_tokens_details, usage.completion_tokens_details
    else:
        made, into, out = usage.output_tokens, usage.input_tokens_details, usage.output_tokens_details
    read, written = (into.cached_tokens, into.cache_write_tokens) if into else (0, 0)
    return spent, read, written, 0, made, out.reasoning_tokens if out else 0


class _AnswerBody(TypedDict, total=False):
    """All of a body that `_read_responses`, `_read_chat` and `_read_embedding` look at."""

    output: Any
    status: Any
    incomplete_details: Any
    choices: Any
    data: Any


class _AnswerResponse(Struct, gc=False):
    body: _AnswerBody


class _AnswerLine(Struct, gc=False):
    response: _AnswerResponse


_read_answer = quick_reader(_AnswerLine)


def _answer_body(line: bytes) -> Any:
    try:
        return _read_answer(line).response.body
    except UNLIKE:
        return as_object(as_object(from_json(line, allow_inf_nan=False)).get("response")).get("body")


def _custom_id(value: Mapping[str, Any]) -> str:
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
        raise MalformedLineError("The line has no custom id that could be ours.")
    return custom_id


def _result(custom_id: str, value: Mapping[str, Any]) -> ResultLine:
    response = as_object(value.get("response"))
    body = as_object(response.get("body"))
    usage = _usage(as_object(body.get("usage")))
    if value.get("error"):
        return _refused(custom_id, value["error"], usage)
    status = response.get("status_code")
    if type(status) is not int or not 200 <= status < 300:
        return _failed(custom_id, status, body, usage)
    if not body:
        return _errored(custom_id, "no_body", "The result has no response body.", usage)
    # The Responses API answers 200 to a request whose generation broke later.
    if body.get("status") in ("failed", "cancelled"):
        error = as_object(body.get("error"))
        return _errored(custom_id, error.get("code") or f"response_{body['status']}", error.get("message"), usage)
    return ResultLine(custom_id=custom_id, outcome=Outcome.SUCCEEDED, usage=usage)


def _refused(custom_id: str, error: Any, usage: Usage) -> ResultLine:
    """A line with an error of its own: never executed. vLLM nests the error once more, and some send plain text."""
    outer = as_object(error)
    inner = as_object(outer.get("error")) or outer
    code = clean_code(inner.get("code") or inner.get("type"))
    return ResultLine(
        custom_id=custom_id,
        outcome=OUTCOMES.get(code, Outcome.ERRORED),
        usage=usage,
        error_code=code or "error",
        reason=clean(inner.get("message")) or clean(error),
    )


def _failed(custom_id: str, status: Any, body: Mapping[str, Any], usage: Usage) -> ResultLine:
    """A line of the error file: its own `error` is null, and the answer's body says what was wrong.

    A status of 0, or none at all, has been seen for requests that were lost inside OpenAI.
    """
    error = as_object(body.get("error"))
    http = clean_code(status) or "0"
    reason = error.get("message") or clean(body.get("error")) or f"The provider answered this entry with HTTP {http}."
    return _errored(custom_id, error.get("code") or error.get("type") or f"http_{http}", reason, usage)


def _errored(custom_id: str, code: Any, reason: Any, usage: Usage) -> ResultLine:
    return ResultLine(
        custom_id=custom_id,
        outcome=Outcome.ERRORED,
        usage=usage,
        error_code=clean_code(code) or "error",
        reason=clean(reason),
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Chat and embeddings say prompt and completion, Responses says input and output; details lie inside the totals."""
    responses = "input_tokens" in usage
    into = as_object(usage.get("input_tokens_details" if responses else "prompt_tokens_details"))
    out = as_object(usage.get("output_tokens_details" if responses else "completion_tokens_details"))
    by_age = as_object(into.get("cache_write_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens" if responses else "prompt_tokens")),
        cache_read_tokens=count(into.get("cached_tokens")),
        cache_write_tokens=count(into.get("cache_write_tokens")),
        # OpenAI's long-lived cache lasts 12 hours, not one, at the same doubled price: 2x of input.
        cache_write_1h_tokens=count(by_age.get("ttl_12h_tokens")),
        output_tokens=count(usage.get("output_tokens" if responses else "completion_tokens")),
        reasoning_tokens=count(out.get("reasoning_tokens")),
    )


def _read_chat(body: Mapping[str, Any]) -> Response:
    choices = as_list(body.get("choices"))
    message = as_object(as_object(choices[0]).get("message")) if choices else {}
    if not message:
        raise ResponseError("no_message", "The response has no choices[0].message.")
    finish = as_text(choices[0].get("finish_reason")) or None
    refusal = as_text(message.get("refusal")) or None
    if finish == "content_filter" and refusal is None:
        refusal = "Stopped by the provider's content filter."
    return Response(
        text=_chat_text(message.get("content")),
        refusal=refusal,
        truncated=finish == "length",
        finish_reason=finish,
        tool_calls=[
            _tool_call(as_object(call).get("id"), as_object(as_object(call).get("function")))
            for call in as_list(message.get("tool_calls"))
        ],
    )


def _chat_text(content: Any) -> str:
    """The text; some servers of the same shape send a list of parts."""
    if isinstance(content, list):
        return "".join(as_text(as_object(part).get("text")) for part in content)
    return as_text(content)


def _read_responses(body: Mapping[str, Any]) -> Response:
    if not isinstance(body.get("output"), list):
        raise ResponseError("no_output", "The response has no list of output items.")
    items = [as_object(item) for item in body["output"]]
    parts = [
        as_object(part) for item in items if item.get("type") == "message" for part in as_list(item.get("content"))
    ]
    cut = as_text(as_object(body.get("incomplete_details")).get("reason")) if body.get("status") == "incomplete" else ""
    refusal = "".join(as_text(part.get("refusal")) for part in parts if part.get("type") == "refusal") or None
    if cut == "content_filter" and refusal is None:
        refusal = "Stopped by the provider's content filter."
    return Response(
        text="".join(as_text(part.get("text")) for part in parts if part.get("type") == "output_text"),
        refusal=refusal,
        truncated=body.get("status") == "incomplete" and cut != "content_filter",
        finish_reason=cut or as_text(body.get("status")) or None,
        tool_calls=[_tool_call(item.get("call_id"), item) for item in items if item.get("type") == "function_call"],
        provider_calls=told_calls(body),
    )


def _tool_call(call_id: Any, function: Mapping[str, Any]) -> RawToolCall:
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = from_json(arguments, allow_inf_nan=False)
        except ValueError:
            logger.debug(
                "A tool call's arguments are no JSON; they stay text.", extra={"event": LogEvent.ARGUMENTS_UNREADABLE}
            )
    return RawToolCall(id=as_text(call_id), name=as_text(function.get("name")), arguments=arguments)


def _read_embedding(body: Mapping[str, Any]) -> Response:
    """The vector of the first input; a ready-made request with several finds the others in the result line itself."""
    items = sorted((as_object(item) for item in as_list(body.get("data"))), key=lambda item: count(item.get("index")))
    vector = items[0].get("embedding") if items else None
    if isinstance(vector, str):
        vector = _decoded(vector)
    if not isinstance(vector, list) or not set(map(type, vector)) <= {int, float}:
        raise ResponseError("no_embedding", "The response has no vector at data[0].embedding.")
    return Response(embedding=list(map(float, vector)))


def _decoded(text: str) -> list[float] | None:
    """`encoding_format: base64` is little-endian 32-bit floats."""
    try:
        raw = base64.b64decode(text, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    except (ValueError, struct.error):
        return None
