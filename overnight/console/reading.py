"""Requests and responses, made readable without being trusted: cut, deep or broken ones are shown as they are."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overnight.batches import Batch
from overnight.errors import OvernightError
from overnight.providers import provider_facts
from overnight.providers.base import Response, untold_by
from overnight.storage.console_values import LONG, Excerpt

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],:]|[^\s{}\[\],:"]+')
_INDENT, _DEEPEST = "  ", 24
_NESTED = 4


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side said."""

    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said.

    Attributes:
        note: how it ended, where that is not simply its end.
    """

    text: str
    note: str | None = None


def cut(text: str) -> str:
    """As much of a text as a page shows."""
    return text[:LONG]


def indented(text: str) -> str:
    """JSON over several lines, as much of it as a page shows. It is never parsed: numbers keep their digits, strings
    their escapes, and neither depth nor a missing end matters. What is no JSON stays as it is.
    """
    if text[:1] not in ("{", "["):
        return cut(text)
    pieces: list[str] = []
    length = 0
    for piece in _pieces(text):
        pieces.append(piece)
        length += len(piece)
        if length >= LONG:
            break
    return cut("".join(pieces))


def _pieces(text: str) -> Iterator[str]:
    depth, before = 0, ""
    for found in _TOKENS.finditer(text):
        piece = found[0]
        opens, closes = piece in ("{", "["), piece in ("}", "]")
        depth -= closes
        was_opened = before in ("{", "[")
        if (was_opened and not closes) or before == "," or (closes and not was_opened):
            yield "\n" + _INDENT * min(depth, _DEEPEST)
        yield ": " if piece == ":" else piece
        depth, before = depth + opens, piece


def turns(request: str) -> list[Turn]:
    """The conversation in a request. The bodies of all endpoints keep it under one of a few names."""
    body = _json(request)
    if not isinstance(body, dict):
        return []
    found = [Turn(role="system", text=said) for name in ("system", "instructions") if (said := _said(body.get(name)))]
    spoken = next((body[name] for name in ("messages", "input", "prompt") if name in body), None)
    for item in spoken if isinstance(spoken, list) else [spoken]:
        role = item.get("role") if isinstance(item, dict) else None
        if said := _said(item):
            found.append(Turn(role=role if isinstance(role, str) else "user", text=cut(said)))
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _said(content: Any, depth: int = 0) -> str:
    """The words in a message's content; what is no text is named by its type."""
    if isinstance(content, str):
        return content
    if depth == _NESTED:
        return ""
    if isinstance(content, list):
        return "\n".join(filter(None, (_said(part, depth + 1) for part in content)))
    if isinstance(content, dict):
        inner = next((content[name] for name in ("text", "content") if content.get(name)), None)
        return _said(inner, depth + 1) if inner is not None else f"[{content.get('type', 'something else')}]"
    return ""


def answer(provider: str, endpoint: str, line: Excerpt | None) -> Answer | None:
    """The model's words in a result line; None where it has none, or where they cannot be read."""
    response = _response(provider, endpoint, line)
    if response is None:
        return None
    if response.refusal is not None:
        return Answer(text=cut(response.refusal), note="refused")
    if not response.text:
        return None
    return Answer(text=cut(response.text), note="cut off by a token limit" if response.truncated else None)


def provider_calls(batch: Batch, request: Excerpt | None, line: Excerpt | None) -> Mapping[str, int]:
    """How often the provider ran which tool of its own for an answer; none where it cannot be read."""
    response = _response(batch.provider, batch.endpoint, line)
    return {} if response is None else {**response.provider_calls, **dict.fromkeys(_untold(batch, request), 1)}


def _untold(batch: Batch, request: Excerpt | None) -> Sequence[str]:
    body = _json(request.text) if request else None
    facts = provider_facts(batch.provider)
    return untold_by(facts, body, model=batch.model, endpoint=batch.endpoint) if isinstance(body, dict) else []


def _response(provider: str, endpoint: str, line: Excerpt | None) -> Response | None:
    if line is None or line.is_cut:
        return None
    try:
        return provider_facts(provider).read_response(line.text.encode(), endpoint=endpoint)
    except (OvernightError, ValueError, RecursionError):
        return None
