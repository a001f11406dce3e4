"""OpenAI's three response bodies, as complete as the service writes them."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from overnight.simulator.jsontext import dump_text
from overnight.simulator.models import NO_VALUE, ModelReply, ModelRequest, ProviderTool, Rendered, ToolCall
from overnight.simulator.questions import CHAT, EMBEDDINGS
from overnight.simulator.responders import unit_vector
from overnight.simulator.tokens import count_tokens, truncate


def render(request: ModelRequest, reply: ModelReply, token: str, created_at: int) -> Rendered:
    if request.endpoint == EMBEDDINGS:
        return _embeddings(request, reply)
    text, cut = _text(request, reply)
    used = reply.input_tokens or request.input_tokens, _output_tokens(reply, text)
    make = _chat if request.endpoint == CHAT else _response
    body = make(request, reply, (text, cut), token, created_at)
    return Rendered(
        status=200, body={**body, "usage": _usage(request, *used)}, input_tokens=used[0], output_tokens=used[1]
    )


def _text(request: ModelRequest, reply: ModelReply) -> tuple[str, bool]:
    if reply.tool_calls:
        return reply.text or "", reply.cut_off
    whole = reply.refusal or (reply.text or "" if reply.value is NO_VALUE else dump_text(reply.value))
    text, cut = truncate(whole, None if reply.uncut else request.max_tokens)
    return text, cut or reply.cut_off


def _output_tokens(reply: ModelReply, text: str) -> int:
    if reply.output_tokens is not None:
        return reply.output_tokens
    calls = sum(count_tokens(call.name + dump_text(call.arguments)) for call in reply.tool_calls)
    return max(1, count_tokens(text) + calls)


def _usage(request: ModelRequest, spent: int, made: int) -> dict[str, Any]:
    if request.endpoint == CHAT:
        return {
            "prompt_tokens": spent,
            "completion_tokens": made,
            "total_tokens": spent + made,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    return {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + made,
    }


def _chat(
    request: ModelRequest, reply: ModelReply, text: tuple[str, bool], token: str, created_at: int
) -> dict[str, Any]:
    finish = "length" if text[1] else "tool_calls" if reply.tool_calls else "stop"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.refusal or (reply.tool_calls and not text[0]) else text[0],
        "refusal": text[0] if reply.refusal else None,
        "annotations": [],
    }
    if reply.tool_calls:
        message["tool_calls"] = [_chat_call(call, token, number) for number, call in enumerate(reply.tool_calls)]
    copies = request.body.get("n") or 1
    return {
        "id": f"chatcmpl-{token}",
        "object": "chat.completion",
        "created": created_at,
        "model": request.model,
        "choices": [
            {"index": number, "message": message, "logprobs": None, "finish_reason": finish} for number in range(copies)
        ],
        "service_tier": "default",
        "system_fingerprint": f"fp_{token[:10]}",
    }


def _chat_call(call: ToolCall, token: str, number: int) -> dict[str, Any]:
    function = {"name": call.name, "arguments": dump_text(call.arguments)}
    return {"id": f"call_{token[:22]}{number}", "type": "function", "function": function}


def _response(
    request: ModelRequest, reply: ModelReply, text: tuple[str, bool], token: str, created_at: int
) -> dict[str, Any]:
    status = "incomplete" if text[1] else "completed"
    return {
        "id": f"resp_{token}",
        "object": "response",
        "created_at": created_at,
        "status": status,
        "background": False,
        "completed_at": None if text[1] else created_at,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if text[1] else None,
        "output": _output(reply, text[0], status, token),
        **_echo(request),
    }


def _echo(request: ModelRequest) -> dict[str, Any]:
    """What a Response repeats of its request."""
    body = request.body
    text = body.get("text") or {}
    return {
        "instructions": body.get("instructions"),
        "max_output_tokens": request.max_tokens,
        "max_tool_calls": None,
        "model": request.model,
        "parallel_tool_calls": bool(body.get("parallel_tool_calls", True)),
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "temperature": float(body.get("temperature") or 1.0),
        "text": {"format": _format(text.get("format")), "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": _tools(body.get("tools") or ()),
        "top_logprobs": 0,
        "top_p": float(body.get("top_p") or 1.0),
        "truncation": "disabled",
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def _format(form: Any) -> dict[str, Any]:
    if not form:
        return {"type": "text"}
    return {"description": None, "strict": False, **form} if form.get("type") == "json_schema" else dict(form)


def _tools(tools: Sequence[Any]) -> list[Any]:
    return [{"description": None, "strict": True, **t} if t.get("type") == "function" else t for t in tools]


def _output(reply: ModelReply, text: str, status: str, token: str) -> list[dict[str, Any]]:
    hosted = [_hosted_call(tool, token, number) for number, tool in enumerate(reply.provider_calls)]
    calls = [_function_call(call, status, token, number) for number, call in enumerate(reply.tool_calls)]
    if calls and not text:
        return hosted + calls
    return [*hosted, _message(reply, text, status, token), *calls]


def _hosted_call(tool: ProviderTool, token: str, number: int) -> dict[str, Any]:
    if tool == "web_search":
        action = {"type": "search", "query": "the night", "queries": ["the night"], "sources": None}
        return {"id": f"ws_{token}{number}", "type": "web_search_call", "status": "completed", "action": action}
    return {
        "id": f"ci_{token}{number}",
        "type": "code_interpreter_call",
        "status": "completed",
        "code": "print('night')",
        "container_id": f"cntr_{token}",
        "outputs": None,
    }


def _function_call(call: ToolCall, status: str, token: str, number: int) -> dict[str, Any]:
    return {
        "id": f"fc_{token}{number}",
        "type": "function_call",
        "status": status,
        "arguments": dump_text(call.arguments),
        "call_id": f"call_{token[:22]}{number}",
        "name": call.name,
    }


def _message(reply: ModelReply, text: str, status: str, token: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    if reply.refusal:
        part = {"type": "refusal", "refusal": text}
    return {"id": f"msg_{token}", "type": "message", "status": status, "content": [part], "role": "assistant"}


def _embeddings(request: ModelRequest, reply: ModelReply) -> Rendered:
    spent = reply.input_tokens or request.input_tokens
    vectors = reply.embeddings or tuple(unit_vector(text, request.dimensions) for text in request.inputs)
    packed = request.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": number, "embedding": _packed(vector) if packed else list(vector)}
        for number, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    body = {"object": "list", "data": data, "model": request.model, "usage": usage}
    return Rendered(status=200, body=body, input_tokens=spent)


def _packed(vector: Sequence[float]) -> str:
    """Little-endian float32 in base64: what the SDK asks for when nobody asks for anything."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
