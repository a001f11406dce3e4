"""The provider's body of one entry, read into a neutral `ModelRequest`, or refused as the provider refuses it."""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from overnight.simulator.errors import ApiError
from overnight.simulator.jsontext import dump
from overnight.simulator.models import Message, ModelRequest
from overnight.simulator.parts import anthropic_attachments, openai_attachments
from overnight.simulator.schema_rules import check_anthropic_schema, check_openai_schema
from overnight.simulator.tokens import TOKENS_PER_MESSAGE, count_tokens
from overnight.simulator.tool_rules import anthropic_tools, openai_tools

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
NO_STREAM_IN_BATCH = "Streaming is not supported in the Batch API."


SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "instructions": (str, list),
    "metadata": Mapping,
    "n": int,
    "output_config": Mapping,
    "output_format": Mapping,
    "response_format": Mapping,
    "system": (str, list),
    "temperature": (int, float),
    "text": Mapping,
    "tool_choice": (str, Mapping),
    "tools": list,
    "top_p": (int, float),
}


def read_request(endpoint: str, body: Any, *, custom_id: str | None, rng: Random, version: str = "") -> ModelRequest:
    """Raises ApiError where the provider would answer this entry with an error."""
    if not isinstance(body, Mapping):
        raise ApiError("The body of a request must be a JSON object.")
    for name, kinds in SHAPES.items():
        if body.get(name) is not None and not isinstance(body[name], kinds):
            raise ApiError(f"{name}: Input has the wrong type", param=name, code="invalid_type")
    if endpoint == MESSAGES:
        return _messages(body, custom_id, rng, version)
    read = {CHAT: _chat, RESPONSES: _responses, EMBEDDINGS: _embeddings}[endpoint]
    return read(body, custom_id, rng)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which those with text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_part_text(part) for part in content if isinstance(part, Mapping))


def _part_text(part: Mapping[str, Any]) -> str:
    for key in ("text", "refusal", "arguments", "output"):
        if isinstance(part.get(key), str):
            return str(part[key])
    return text_of(part.get("content"))


def _input_tokens(texts: Iterable[str], *extras: Any) -> int:
    counted = sum(count_tokens(text) + TOKENS_PER_MESSAGE for text in texts)
    return counted + sum(count_tokens(dump(extra).decode()) for extra in extras if extra)


def _need(body: Mapping[str, Any], name: str, kinds: type | tuple[type, ...]) -> Any:
    """OpenAI's two complaints about a parameter."""
    if body.get(name) is None:
        raise ApiError(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    value = body[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ApiError(f"Invalid type for '{name}'.", param=name, code="invalid_type")
    return value


def _budget(body: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ApiError(f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type")
        if value is not None and value < 1:
            message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead."
            raise ApiError(message, param=name, code="integer_below_min_value")
    return next((body[name] for name in names if body.get(name) is not None), None)


def _refuse_stream(body: Mapping[str, Any]) -> None:
    if body.get("stream"):
        raise ApiError(NO_STREAM_IN_BATCH, param="stream", code="unsupported_parameter")


def _openai_messages(items: list[Any], param: str) -> tuple[Message, ...]:
    if not items:
        message = (
            f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise ApiError(message, param=param, code="empty_array")
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise ApiError(
                f"Invalid type for '{param}[{number}]': expected an object.", param=param, code="invalid_type"
            )
    return tuple(Message(role=str(item.get("role", "user")), text=_part_text(item)) for item in items)


def _tool_choice(choice: Any) -> str:
    """OpenAI's and Anthropic's ways to name a tool, in one word."""
    if isinstance(choice, Mapping):
        named = choice.get("function") if isinstance(choice.get("function"), Mapping) else choice
        assert isinstance(named, Mapping)
        kind = str(choice.get("type", "auto"))
        return str(named.get("name") or {"any": "required"}.get(kind, kind))
    return choice if isinstance(choice, str) else "auto"


def _openai_schema(form: Any, param: str) -> Mapping[str, Any] | None:
    """The schema of `response_format` (chat, nested) or `text.format` (Responses, flat)."""
    if not isinstance(form, Mapping) or form.get("type") == "text":
        return None
    if form.get("type") == "json_object":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if form.get("type") != "json_schema":
        raise ApiError(f"Invalid value: '{form.get('type')}'.", param=f"{param}.type", code="invalid_value")
    spec = form.get("json_schema", form)
    name, schema = spec.get("name"), spec.get("schema")
    if not isinstance(name, str) or not isinstance(schema, Mapping):
        wanted = "name" if not isinstance(name, str) else "schema"
        message = f"Missing required parameter: '{param}.{wanted}'."
        raise ApiError(message, param=f"{param}.{wanted}", code="missing_required_parameter")
    if spec.get("strict"):
        check_openai_schema(schema, name, param)
    return schema


def _chat(body: Mapping[str, Any], custom_id: str | None, rng: Random) -> ModelRequest:
    _refuse_stream(body)
    messages = _openai_messages(_need(body, "messages", list), "messages")
    attachments = tuple(openai_attachments(body["messages"], "messages", chat=True))
    tools, _ = openai_tools(body, chat=True)
    return ModelRequest(
        provider="openai",
        endpoint=CHAT,
        model=_need(body, "model", str),
        custom_id=custom_id,
        messages=messages,
        system=_system(messages),
        schema=_openai_schema(body.get("response_format"), "response_format"),
        tools=tools,
        attachments=attachments,
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=_budget(body, "max_completion_tokens", "max_tokens"),
        body=body,
        rng=rng,
        input_tokens=_input_tokens((m.text for m in messages), body.get("response_format"), body.get("tools")),
    )


def _system(messages: Iterable[Message]) -> str:
    return "\n".join(m.text for m in messages if m.role in {"system", "developer"})


def _responses(body: Mapping[str, Any], custom_id: str | None, rng: Random) -> ModelRequest:
    _refuse_stream(body)
    given = _need(body, "input", (str, list))
    messages = (Message(role="user", text=given),) if isinstance(given, str) else _openai_messages(given, "input")
    attachments = () if isinstance(given, str) else tuple(openai_attachments(given, "input", chat=False))
    tools, provider_tools = openai_tools(body, chat=False)
    text = body.get("text")
    instructions = body.get("instructions") if isinstance(body.get("instructions"), str) else ""
    return ModelRequest(
        provider="openai",
        endpoint=RESPONSES,
        model=_need(body, "model", str),
        custom_id=custom_id,
        messages=messages,
        system="\n".join(filter(None, (instructions, _system(messages)))),
        schema=_openai_schema(text.get("format"), "text.format") if isinstance(text, Mapping) else None,
        tools=tools,
        provider_tools=provider_tools,
        attachments=attachments,
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=_budget(body, "max_output_tokens"),
        body=body,
        rng=rng,
        input_tokens=_input_tokens(
            [*(m.text for m in messages), *filter(None, [instructions])], text, body.get("tools")
        ),
    )


def _embeddings(body: Mapping[str, Any], custom_id: str | None, rng: Random) -> ModelRequest:
    given = _need(body, "input", (str, list))
    inputs = embedding_inputs(given)
    if not inputs:
        raise ApiError("Invalid 'input': input cannot be an empty array.", param="input", code="invalid_value")
    dimensions = _budget(body, "dimensions")
    model = _need(body, "model", str)
    return ModelRequest(
        provider="openai",
        endpoint=EMBEDDINGS,
        model=model,
        custom_id=custom_id,
        messages=tuple(Message(role="user", text=text) for text in inputs),
        inputs=inputs,
        dimensions=dimensions or (3072 if "large" in model else 1536),
        body=body,
        rng=rng,
        input_tokens=sum(max(1, count_tokens(text)) for text in inputs),
    )


def embedding_inputs(given: Any) -> tuple[str, ...]:
    """A string, strings, one token array, or token arrays; tokens are spelled out, as nothing decodes them here."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list):
        return ()
    if given and all(isinstance(token, int) for token in given):
        return (" ".join(map(str, given)),)
    return tuple(" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in given)


def _messages(body: Mapping[str, Any], custom_id: str | None, rng: Random, version: str) -> ModelRequest:
    _check_messages_body(body, version)
    messages = tuple(Message(role=m["role"], text=text_of(m["content"])) for m in body["messages"])
    config = body.get("output_config") or {}
    attachments, (tools, provider_tools) = tuple(anthropic_attachments(body["messages"])), anthropic_tools(body)
    form = config.get("format") or body.get("output_format") or {}
    if form:
        check_anthropic_schema(form)
    system = text_of(body.get("system"))
    return ModelRequest(
        provider="anthropic",
        endpoint=MESSAGES,
        model=body["model"],
        custom_id=custom_id,
        messages=messages,
        system=system,
        schema=form.get("schema"),
        tools=tools,
        provider_tools=provider_tools,
        attachments=attachments,
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=body["max_tokens"],
        body=body,
        rng=rng,
        input_tokens=_input_tokens([*(m.text for m in messages), *filter(None, [system])], form, body.get("tools")),
    )


def _check_messages_body(body: Mapping[str, Any], version: str) -> None:
    """Anthropic's complaints are pydantic's, with the path in front."""
    for name, kind, words in (("max_tokens", int, "integer"), ("messages", list, "list"), ("model", str, "string")):
        if body.get(name) is None:
            raise ApiError(f"{name}: Field required")
        if not isinstance(body[name], kind) or isinstance(body[name], bool):
            raise ApiError(f"{name}: Input should be a valid {words}")
    if body["max_tokens"] < 1:
        raise ApiError("max_tokens: Input should be greater than or equal to 1")
    if body.get("stream"):
        raise ApiError("stream: streaming is not supported in a message batch")
    for name in ("temperature", "top_p", "top_k"):
        # The version that SDK 2.x pins makes these errors; older dates still take them.
        if version >= "2026-10-21" and body.get(name) is not None:
            raise ApiError(f"{name}: Extra inputs are not permitted")
    _check_messages(body["messages"])


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        raise ApiError("messages: at least one message is required")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ApiError(f"messages.{number}: Input should be a valid dictionary")
        if message.get("role") not in {"user", "assistant", "system"}:
            raise ApiError(f"messages.{number}.role: Input should be 'user' or 'assistant'")
        if not isinstance(message.get("content"), str | list):
            raise ApiError(f"messages.{number}.content: Field required")
        if not message["content"] and number + 1 < len(messages):
            raise ApiError(f"messages.{number}: all messages must have non-empty content")
