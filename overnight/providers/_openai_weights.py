"""What OpenAI's requests weigh, on each of its endpoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overnight.providers._openai_tools import chat_search
from overnight.providers._values import as_text
from overnight.providers._weights import Weighing
from overnight.providers.weight import PROVIDER_TOOLS, RequestWeight

_RESPONSES = Weighing(
    texts=("instructions", "input"),
    schemas=("tools", "text"),
    limits=("max_output_tokens",),
    references={
        "prompt": "stored prompts",
        "previous_response_id": "earlier responses",
        "conversation": "earlier responses",
    },
)
_CHAT = Weighing(
    texts=("messages",),
    schemas=("tools", "functions", "response_format"),
    limits=("max_completion_tokens", "max_tokens"),
    references={},
)
_EMBEDDINGS = Weighing(texts=("input",), answers=False, references={})


def weigh_responses(request: Mapping[str, Any]) -> RequestWeight:
    """Of `/v1/responses`."""
    return _RESPONSES.weigh(request)


def weigh_chat(request: Mapping[str, Any]) -> RequestWeight:
    """Of `/v1/chat/completions`, where a model may search without having been given a tool for it."""
    weight = _CHAT.weigh(request)
    if not chat_search(as_text(request.get("model"))).may_run(request):
        return weight
    return replace(weight, uncounted=weight.uncounted | {PROVIDER_TOOLS}, uncounted_at_most=None)


def weigh_embeddings(request: Mapping[str, Any]) -> RequestWeight:
    """Of `/v1/embeddings`."""
    return _EMBEDDINGS.weigh(request)
