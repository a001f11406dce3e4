"""What OpenAI is sent for one prompt, on each of its endpoints."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from overnight.content import File, Image, Message, Part
from overnight.errors import RequestError
from overnight.provider_tools import CodeExecution, ProviderTool, WebSearch
from overnight.providers._requests import Renderings, attachments, joined
from overnight.providers._schema import openai_schema
from overnight.providers.base import Prompt, ToolSpec

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")

# OpenAI's guides on images and on files, as of November 2026.
MAX_IMAGES = 1_500
MAX_FILE_BYTES = 50_000_000
MAX_STOPS = 4
MAX_TOOLS = 128

_formats: Renderings[dict[str, Any]] = Renderings()
_functions: Renderings[list[dict[str, Any]]] = Renderings()


def embeddings_request(prompt: Prompt) -> dict[str, Any]:
    """The body for `/v1/embeddings`."""
    if len(prompt.messages) != 1 or prompt.system is not None:
        raise RequestError("messages: an embedding is made of one text; give exactly one message and no system text.")
    for where, _ in attachments(prompt):
        raise RequestError(f"{where}: an embedding is made of text, not of images or files.")
    if not (text := joined(prompt.messages[0].content)):
        raise RequestError("messages[0].content: an embedding needs a text that is not empty.")
    for field in ("output_schema", "max_tokens", "temperature", "top_p", "stop", "reasoning_effort"):
        if getattr(prompt, field) is not None:
            raise RequestError(f"{field}: embeddings know no such thing.")
    if prompt.tools or prompt.provider_tools:
        raise RequestError("tools: embeddings know no such thing.")
    return {"input": text}


def chat_request(prompt: Prompt) -> dict[str, Any]:
    """The body for `/v1/chat/completions`."""
    _check_attachments(prompt)
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    turns = [{"role": message.role, "content": _chat_content(message, n)} for n, message in enumerate(prompt.messages)]
    body: dict[str, Any] = {"messages": system + turns} | _sampling(prompt)
    if prompt.max_tokens is not None:
        body["max_completion_tokens"] = prompt.max_tokens
    if prompt.reasoning_effort is not None:
        body["reasoning_effort"] = prompt.reasoning_effort
    if prompt.stop:
        _check_at_most("stop", len(prompt.stop), MAX_STOPS)
        body["stop"] = list(prompt.stop)
    if prompt.output_schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _schema_format(prompt)}
    return body | _chat_tools(prompt)


def responses_request(prompt: Prompt) -> dict[str, Any]:
    """The body for `/v1/responses`."""
    _check_attachments(prompt)
    if prompt.stop:
        raise RequestError("stop: /v1/responses knows no such thing; use /v1/chat/completions.")
    turns = [{"role": message.role, "content": _responses_content(message)} for message in prompt.messages]
    body: dict[str, Any] = {"input": turns} | _sampling(prompt)
    if prompt.system:
        body["instructions"] = prompt.system
    if prompt.max_tokens is not None:
        body["max_output_tokens"] = prompt.max_tokens
    if prompt.reasoning_effort is not None:
        body["reasoning"] = {"effort": prompt.reasoning_effort}
    if prompt.output_schema is not None:
        body["text"] = {"format": {"type": "json_schema"} | _schema_format(prompt)}
    return body | _responses_tools(prompt)


def _sampling(prompt: Prompt) -> dict[str, Any]:
    given = {"temperature": prompt.temperature, "top_p": prompt.top_p}
    return {name: value for name, value in given.items() if value is not None}


def _check_attachments(prompt: Prompt) -> None:
    found = list(attachments(prompt))
    if not found:
        return
    _check_at_most("messages: images", sum(isinstance(part, Image) for _, part in found), MAX_IMAGES)
    files = sum(len(part.data or b"") for _, part in found if isinstance(part, File))
    _check_at_most("messages: bytes of files", files, MAX_FILE_BYTES)


def _check_at_most(what: str, number: int, limit: int) -> None:
    if number > limit:
        raise RequestError(f"{what}: OpenAI takes at most {limit:,} in one request, and there are {number:,}.")


def _chat_content(message: Message, number: int) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or message.role != "user":
        return joined(message.content)
    return [_chat_part(part, f"messages[{number}].content[{index}]") for index, part in enumerate(message.content)]


def _chat_part(part: Part, where: str) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image():
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": part.url or _data_url(part)} | detail}
        case File(media_type="application/pdf"):
            return {"type": "file", "file": {"filename": _filename(part), "file_data": _data_url(part)}}
        case File():
            raise RequestError(f"{where}: /v1/chat/completions takes PDFs as bytes only; use /v1/responses.")
        case _:
            assert_never(part)


def _responses_content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or message.role != "user":
        return joined(message.content)
    return [_responses_part(part) for part in message.content]


def _responses_part(part: Part) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "input_text", "text": part}
        case Image():
            return {"type": "input_image", "image_url": part.url or _data_url(part), "detail": part.detail or "auto"}
        case File(url=str()):
            return {"type": "input_file", "file_url": part.url}
        case File():
            return {"type": "input_file", "filename": _filename(part), "file_data": _data_url(part)}
        case _:
            assert_never(part)


def _data_url(part: Image | File) -> str:
    return f"data:{part.media_type};base64,{part.base64}"


def _filename(file: File) -> str:
    return file.name or ("document.pdf" if file.media_type == "application/pdf" else "document.txt")


def _schema_format(prompt: Prompt) -> dict[str, Any]:
    """The name and the schema of the output; translated once for each schema object."""
    schema, name = prompt.output_schema, prompt.output_name
    assert schema is not None

    def make() -> dict[str, Any]:
        named = NOT_IN_A_NAME.sub("_", name or "output")[:64]
        return {"name": named, "strict": True, "schema": openai_schema(schema)}

    return _formats.get(make, schema, name)


def _functions_of(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    _check_at_most("tools", len(tools), MAX_TOOLS)
    return _functions.get(lambda: [_function(tool) for tool in tools], tools)


def _function(tool: ToolSpec) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    schema = openai_schema(tool.schema, f"tools.{tool.name}")
    return {"name": tool.name} | described | {"parameters": schema, "strict": True}


def _chat_tools(prompt: Prompt) -> dict[str, Any]:
    if prompt.provider_tools:
        name = type(prompt.provider_tools[0]).__name__
        raise RequestError(f"provider_tools: /v1/chat/completions has no {name}; use /v1/responses.")
    if not prompt.tools:
        return {}
    tools = [{"type": "function", "function": function} for function in _functions_of(prompt.tools)]
    named = {"type": "function", "function": {"name": prompt.tool_choice}}
    return {"tools": tools} | _choice(prompt, named)


def _responses_tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools and not prompt.provider_tools:
        return {}
    own = [{"type": "function"} | function for function in _functions_of(prompt.tools)]
    theirs = [_provider_tool(tool) for tool in prompt.provider_tools]
    named = {"type": "function", "name": prompt.tool_choice}
    return {"tools": own + theirs} | _choice(prompt, named) | _max_uses(prompt.provider_tools)


def _choice(prompt: Prompt, named: Mapping[str, Any]) -> dict[str, Any]:
    if prompt.tool_choice == "auto":
        return {}
    return {"tool_choice": prompt.tool_choice if prompt.tool_choice in ("none", "required") else named}


def _provider_tool(tool: ProviderTool) -> dict[str, Any]:
    match tool:
        case WebSearch():
            if tool.blocked_domains:
                raise RequestError("provider_tools: OpenAI can only be told which domains to search, not which not to.")
            return {"type": "web_search"} | (
                {"filters": {"allowed_domains": list(tool.allowed_domains)}} if tool.allowed_domains else {}
            )
        case CodeExecution():
            return {"type": "code_interpreter", "container": {"type": "auto"}}
        case _:
            assert_never(tool)


def _max_uses(tools: Sequence[ProviderTool]) -> dict[str, Any]:
    """OpenAI counts the calls of all its tools together."""
    limits = [tool.max_uses for tool in tools if isinstance(tool, WebSearch) and tool.max_uses is not None]
    if limits and len(tools) > 1:
        raise RequestError("provider_tools: OpenAI limits all its tools together; `max_uses` needs WebSearch alone.")
    return {"max_tool_calls": limits[0]} if limits else {}
