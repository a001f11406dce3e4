"""Anthropic's Message, as complete as the service writes it."""

from typing import Any

from overnight.simulator.jsontext import dump_text
from overnight.simulator.models import NO_VALUE, ModelReply, ModelRequest, ProviderTool, Rendered
from overnight.simulator.tokens import count_tokens, truncate


def message(request: ModelRequest, reply: ModelReply, token: str, *, batch: bool) -> Rendered:
    content, made, cut = _content(request, reply, token)
    spent = reply.input_tokens or request.input_tokens
    made = made if reply.output_tokens is None else reply.output_tokens
    body = {
        "id": f"msg_{token}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": _stop_reason(reply, cut=cut),
        "stop_sequence": None,
        "usage": _usage(spent, made, "batch" if batch else "standard", reply),
    }
    if "code_execution" in reply.provider_calls:
        body["container"] = {"id": f"container_{token}", "expires_at": "2026-12-24T00:00:00Z"}
    return Rendered(status=200, body=body, input_tokens=spent, output_tokens=made)


def _content(request: ModelRequest, reply: ModelReply, token: str) -> tuple[list[dict[str, Any]], int, bool]:
    """Content blocks, output tokens, and whether the budget ran out."""
    hosted = [block for number, tool in enumerate(reply.provider_calls) for block in _hosted(tool, token, number)]
    calls = [
        {"type": "tool_use", "id": f"toolu_{token[:22]}{number}", "name": call.name, "input": dict(call.arguments)}
        for number, call in enumerate(reply.tool_calls)
    ]
    whole = reply.refusal or (reply.text or "" if reply.value is NO_VALUE else dump_text(reply.value))
    text, cut = truncate(whole, None if reply.uncut else request.max_tokens)
    texts = [] if calls and not text else [{"type": "text", "text": text, "citations": None}]
    made = count_tokens(text) + sum(count_tokens(c.name + dump_text(c.arguments)) for c in reply.tool_calls)
    return [*hosted, *texts, *calls], max(1, made), cut or reply.cut_off


def _hosted(tool: ProviderTool, token: str, number: int) -> list[dict[str, Any]]:
    """What Anthropic did itself: the call, and what it found."""
    call_id = f"srvtoolu_{token[:20]}{number}"
    name = "web_search" if tool == "web_search" else "bash_code_execution"
    arguments = {"query": "the night"} if tool == "web_search" else {"command": "echo night"}
    found: Any = {"type": f"{name}_result", "stdout": "night\n", "stderr": "", "return_code": 0, "content": []}
    if tool == "web_search":
        found = [{"type": f"{name}_result", "title": "Night", "url": "https://example.com/night", "page_age": None}]
        found[0]["encrypted_content"] = token
    return [
        {"type": "server_tool_use", "id": call_id, "name": name, "input": arguments},
        {"type": f"{name}_tool_result", "tool_use_id": call_id, "content": found},
    ]


def _stop_reason(reply: ModelReply, *, cut: bool) -> str:
    if reply.refusal:
        return "refusal"
    if cut:
        return "max_tokens"
    return "tool_use" if reply.tool_calls else "end_turn"


def _usage(spent: int, made: int, tier: str, reply: ModelReply) -> dict[str, Any]:
    """`input_tokens` is what was not cached, so with caching off it is the whole prompt."""
    searches = reply.provider_calls.count("web_search")
    return {
        "input_tokens": spent,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": made,
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0} if searches else None,
        "service_tier": tier,
    }
