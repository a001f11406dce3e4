"""Images and files in messages: what each provider takes, and what it says of anything else."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overnight.simulator.errors import ApiError

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
DETAILS = ("low", "high", "auto", "original")
"""OpenAI's SDK 3.54, November 2026."""
MAX_ANTHROPIC_IMAGE = 10 * 1024 * 1024
DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,(.*)", re.DOTALL)
URL = "url"

CHAT_PARTS: Mapping[str, frozenset[str]] = {
    "user": frozenset({"text", "image_url", "file", "input_audio"}),
    "assistant": frozenset({"text", "refusal"}),
}
RESPONSES_PARTS: Mapping[str, frozenset[str]] = {
    "user": frozenset({"input_text", "input_image", "input_file"}),
    "assistant": frozenset({"output_text", "refusal"}),
}
TEXT_ONLY = frozenset({"text", "input_text"})


def openai_attachments(items: Sequence[Any], param: str, *, chat: bool) -> Iterator[str]:
    """The media types of what is attached to OpenAI's messages; `url` for what the provider would fetch itself.

    Raises ApiError for a part that the endpoint does not know.
    """
    known = CHAT_PARTS if chat else RESPONSES_PARTS
    for number, item in enumerate(items):
        content = item.get("content") if isinstance(item, Mapping) else None
        if isinstance(content, list):
            allowed = known.get(str(item.get("role")), TEXT_ONLY)
            for index, part in enumerate(content):
                yield from _openai_part(part, f"{param}[{number}].content[{index}]", allowed)


def _openai_part(part: Any, param: str, allowed: frozenset[str]) -> Iterator[str]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in allowed:
        supported = ", ".join(f"'{name}'" for name in sorted(allowed))
        message = f"Invalid value: '{kind}'. Supported values are: {supported}."
        raise ApiError(message, param=f"{param}.type", code="invalid_value")
    if kind == "image_url":
        image = _object(part, "image_url", param)
        _check_detail(image, f"{param}.image_url.detail")
        yield _image(image.get("url"), f"{param}.image_url.url")
    elif kind == "input_image":
        _check_detail(part, f"{param}.detail")
        if part.get("file_id") is None:
            yield _image(part.get("image_url"), f"{param}.image_url")
    elif kind in {"file", "input_file"}:
        yield from _file(_object(part, "file", param) if kind == "file" else part, param, urls=kind == "input_file")


def _object(part: Mapping[str, Any], name: str, param: str) -> Mapping[str, Any]:
    if not isinstance(part.get(name), Mapping):
        raise ApiError(f"Missing required parameter: '{param}.{name}'.", param=param, code="missing_required_parameter")
    return part[name]  # type: ignore[no-any-return]  # an object, as was just seen


def _check_detail(image: Mapping[str, Any], param: str) -> None:
    if (detail := image.get("detail")) is not None and detail not in DETAILS:
        supported = ", ".join(f"'{name}'" for name in DETAILS)
        message = f"Invalid value: '{detail}'. Supported values are: {supported}."
        raise ApiError(message, param=param, code="invalid_value")


def _image(url: Any, param: str) -> str:
    if isinstance(url, str) and url.startswith(("https://", "http://")):
        return URL
    media_type = _data_type(url, param)
    if media_type not in IMAGE_TYPES:
        message = "You uploaded an unsupported image. Please make sure your image is of one of the following formats: "
        raise ApiError(f"{message}['png', 'jpeg', 'gif', 'webp'].", param=param, code="invalid_image_format")
    return media_type


def _file(file: Mapping[str, Any], param: str, *, urls: bool) -> Iterator[str]:
    if file.get("file_id") is not None:
        return
    if urls and isinstance(file.get("file_url"), str):
        yield URL
        return
    if not isinstance(file.get("filename"), str) or not isinstance(file.get("file_data"), str):
        missing = "filename" if isinstance(file.get("file_data"), str) else "file_data"
        raise ApiError(
            f"Missing required parameter: '{param}.{missing}'.", param=param, code="missing_required_parameter"
        )
    media_type = _data_type(file["file_data"], f"{param}.file_data")
    if not urls and media_type != "application/pdf":
        raise ApiError(f"Invalid file data: '{param}.file_data'. Expected a PDF.", param=param, code="invalid_value")
    yield media_type


def _data_type(url: Any, param: str) -> str:
    found = DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None or not is_base64(found[2]):
        message = f"Invalid '{param}'. Expected a valid URL, or a base64-encoded data URL with a MIME type."
        raise ApiError(message, param=param, code="invalid_value")
    return found[1]


def is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return False


def anthropic_attachments(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The media types of what is attached to Anthropic's messages; `url` for what the provider would fetch itself.

    Raises ApiError for a block that the endpoint does not know.
    """
    for number, message in enumerate(messages):
        if isinstance(message["content"], list):
            for index, block in enumerate(message["content"]):
                yield from _anthropic_block(block, message["role"], f"messages.{number}.content.{index}")


ANTHROPIC_BLOCKS = frozenset(
    {"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result"}
    | {"server_tool_use", "web_search_tool_result", "bash_code_execution_tool_result", "container_upload"}
)


def _anthropic_block(block: Any, role: str, where: str) -> Iterator[str]:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind not in ANTHROPIC_BLOCKS:
        raise ApiError(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "text" and not (isinstance(block.get("text"), str) and block["text"].strip()):
        raise ApiError(f"{where}.text: text content blocks must contain non-whitespace text")
    if kind in {"image", "document"}:
        if role != "user":
            raise ApiError(f"{where}: {kind} blocks are only permitted in user turns")
        yield _anthropic_source(block.get("source"), kind, f"{where}.{kind}.source")


def _anthropic_source(source: Any, kind: str, where: str) -> str:
    if not isinstance(source, Mapping):
        raise ApiError(f"{where}: Field required")
    if source.get("type") == "url":
        if not str(source.get("url")).startswith(("https://", "http://")):
            raise ApiError(f"{where}.url: Only HTTP and HTTPS URLs are supported")
        return URL
    if kind == "document" and source.get("type") == "text":
        if source.get("media_type") != "text/plain" or not isinstance(source.get("data"), str):
            raise ApiError(f"{where}.text.media_type: Input should be 'text/plain'")
        return "text/plain"
    return _anthropic_bytes(source, IMAGE_TYPES if kind == "image" else ("application/pdf",), where)


def _anthropic_bytes(source: Mapping[str, Any], types: Sequence[str], where: str) -> str:
    if source.get("type") != "base64":
        raise ApiError(f"{where}: Input tag '{source.get('type')}' does not match any of the expected tags")
    if source.get("media_type") not in types:
        raise ApiError(f"{where}.base64.media_type: Input should be {' or '.join(map(repr, types))}")
    data = source.get("data")
    if not isinstance(data, str) or not is_base64(data):
        raise ApiError(f"{where}.base64.data: Invalid base64 data")
    if len(data) > MAX_ANTHROPIC_IMAGE and types is IMAGE_TYPES:
        message = f"image exceeds {MAX_ANTHROPIC_IMAGE // 1024 // 1024} MB maximum: {len(data)} bytes"
        raise ApiError(f"{where}.base64: {message} > {MAX_ANTHROPIC_IMAGE} bytes")
    return str(source["media_type"])
