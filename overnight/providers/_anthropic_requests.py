"""What Anthropic is sent for one prompt."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from overnight.content import File, Image, Message, Part
from overnight.errors import RequestError
from overnight.provider_tools import CodeExecution, ProviderTool, WebSearch
from overnight.providers._requests import Renderings, attachments, base64_size
from overnight.providers._schema import ANTHROPIC, OUTPUT, Schema, anthropic_schema
from overnight.providers._schema_limits import check_together
from overnight.providers.base import Prompt, ToolSpec

DEFAULT_MAX_TOKENS = 4096
"""Anthropic wants a number; this one every model takes."""

# Anthropic's guides on vision, on PDFs and on structured outputs, as of November 2026.
MAX_IMAGES = 600
MAX_IMAGE_BASE64 = 10 * 1024 * 1024
MAX_BASE64 = 32 * 1024 * 1024
MAX_STRICT_TOOLS = 20

CHOICES: Mapping[str, str] = {"required": "any", "none": "none"}

_schemas: Renderings[tuple[Schema | None, list[dict[str, Any]]]] = Renderings()


def messages_request(prompt: Prompt) -> dict[str, Any]:
    """The body for `/v1/messages`."""
    _check_attachments(prompt)
    if prompt.temperature is not None and prompt.top_p is not None:
        raise RequestError("top_p: Anthropic's models take a temperature or a top_p, not both.")
    body: dict[str, Any] = {
        "max_tokens": prompt.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": [_turn(message, number) for number, message in enumerate(prompt.messages)],
    }
    stop = list(prompt.stop) if prompt.stop else None
    given = {"temperature": prompt.temperature, "top_p": prompt.top_p, "stop_sequences": stop}
    body |= {name: value for name, value in given.items() if value is not None}
    if prompt.system:
        body["system"] = prompt.system
    schema, tools = _schemas.get(lambda: _translated(prompt), prompt.output_schema, prompt.tools)
    config: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema}} if schema is not None else {}
    if prompt.reasoning_effort is not None:
        config["effort"] = prompt.reasoning_effort
    return body | ({"output_config": config} if config else {}) | _tools(prompt, tools)


def _check_attachments(prompt: Prompt) -> None:
    found = list(attachments(prompt))
    if not found:
        return
    for where, part in found:
        if isinstance(part, Image):
            _check_image(part, where)
    if sum(isinstance(part, Image) for _, part in found) > MAX_IMAGES:
        raise RequestError(f"messages: Anthropic takes at most {MAX_IMAGES} images in one request.")
    if sum(base64_size(part.data) for _, part in found) > MAX_BASE64:
        raise RequestError("messages: Anthropic takes at most 32 MB of images and files, as base64, in one request.")


def _check_image(image: Image, where: str) -> None:
    if base64_size(image.data) > MAX_IMAGE_BASE64:
        raise RequestError(f"{where}: Anthropic takes images of at most 10 MB as base64; make it smaller.")
    if image.detail not in (None, "auto"):
        # Left out in silence, it would cost more than somebody who wrote "low" expects.
        raise RequestError(f"{where}.detail: Anthropic knows no such thing; leave it out, and make the image smaller.")


def _turn(message: Message, number: int) -> dict[str, Any]:
    where = f"messages[{number}].content"
    if isinstance(message.content, str):
        return {"role": message.role, "content": _not_blank(message.content, where)}
    parts = [_block(part, f"{where}[{index}]") for index, part in enumerate(message.content)]
    return {"role": message.role, "content": parts}


def _not_blank(text: str, where: str) -> str:
    if not text.strip():
        raise RequestError(f"{where}: Anthropic refuses a text that is empty or blank.")
    return text


def _block(part: Part, where: str) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": _not_blank(part, where)}
        case Image():
            return {"type": "image", "source": _source(part)}
        case File():
            title = {"title": part.name[:500]} if part.name else {}
            return {"type": "document", "source": _source(part)} | title
        case _:
            assert_never(part)


def _source(part: Image | File) -> dict[str, Any]:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    if isinstance(part, File) and part.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": part.text}
    return {"type": "base64", "media_type": part.media_type, "data": part.base64}


def _translated(prompt: Prompt) -> tuple[Schema | None, list[dict[str, Any]]]:
    """The schemas of the output and of the tools; they share one budget."""
    if len(prompt.tools) > MAX_STRICT_TOOLS:
        raise RequestError(f"tools: Anthropic takes at most {MAX_STRICT_TOOLS} in one request.")
    schema = anthropic_schema(prompt.output_schema) if prompt.output_schema is not None else None
    tools = [_tool(tool) for tool in prompt.tools]
    together = {f"tools.{tool['name']}": tool["input_schema"] for tool in tools}
    check_together(together | ({OUTPUT: schema} if schema else {}), ANTHROPIC.limits, ANTHROPIC.provider)
    return schema, tools


def _tool(tool: ToolSpec) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    schema = anthropic_schema(tool.schema, f"tools.{tool.name}")
    return {"name": tool.name} | described | {"input_schema": schema, "strict": True}


def _tools(prompt: Prompt, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not own and not prompt.provider_tools:
        return {}
    tools = {"tools": [*own, *map(_provider_tool, prompt.provider_tools)]}
    if prompt.tool_choice == "auto":
        return tools
    kind = CHOICES.get(prompt.tool_choice)
    return tools | {"tool_choice": {"type": kind} if kind else {"type": "tool", "name": prompt.tool_choice}}


def _provider_tool(tool: ProviderTool) -> dict[str, Any]:
    """In the versions that every current model takes: later ones run a search from inside code, on some models only."""
    match tool:
        case WebSearch():
            return {"type": "web_search_20250305", "name": "web_search"} | _search_options(tool)
        case CodeExecution():
            return {"type": "code_execution_20250825", "name": "code_execution"}
        case _:
            assert_never(tool)


def _search_options(tool: WebSearch) -> dict[str, Any]:
    if tool.allowed_domains and tool.blocked_domains:
        raise RequestError("provider_tools: Anthropic takes domains to search or domains not to search, not both.")
    options = {
        "max_uses": tool.max_uses,
        "allowed_domains": list(tool.allowed_domains) or None,
        "blocked_domains": list(tool.blocked_domains) or None,
    }
    return {name: value for name, value in options.items() if value is not None}
