"""What the conformance tests drive a simulator with: the official SDKs, and its own control endpoints."""

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx
import openai
from anthropic.types.messages import MessageBatch
from openai.types import Batch

from overnight.simulator import Running, SimulatorConfig, Stages, running

SLOW = Stages(validating=10, in_progress=100, finalizing=10, canceling=10)
"""Nothing ends by itself: tests move the simulator's clock instead of waiting."""
OPENAI_LIFE = 10 + 100 + 10
GPT, CLAUDE, EMBEDDER = "gpt-5-mini", "claude-sonnet-5", "text-embedding-3-small"

CLOSED_SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["good", "bad"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["mood", "score"],
    "additionalProperties": False,
}


def openai_entry(
    custom_id: str, prompt: str = "Tell me of the night.", url: str = "/v1/responses", **body: Any
) -> dict[str, Any]:
    given: dict[str, Any] = {"model": GPT, "input": prompt}
    if url == "/v1/chat/completions":
        given = {"model": GPT, "messages": [{"role": "user", "content": prompt}]}
    if url == "/v1/embeddings":
        given["model"] = EMBEDDER
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {**given, **body}}


def anthropic_entry(custom_id: str, prompt: str = "Tell me of the night.", **params: Any) -> dict[str, Any]:
    given = {"model": CLAUDE, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    return {"custom_id": custom_id, "params": {**given, **params}}


def jsonl(entries: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


class Bench:
    """A running simulator with strict clients that never retry by themselves."""

    def __init__(self, where: Running, stack: ExitStack) -> None:
        self.where = where
        self.openai = stack.enter_context(
            openai.OpenAI(
                base_url=where.openai_base_url, api_key="test-key", max_retries=0, _strict_response_validation=True
            )
        )
        self.anthropic = stack.enter_context(
            anthropic.Anthropic(
                base_url=where.anthropic_base_url, api_key="test-key", max_retries=0, _strict_response_validation=True
            )
        )
        headers = {"authorization": "Bearer test-key", "anthropic-version": "2023-06-01"}
        self.http = stack.enter_context(httpx.Client(base_url=where.url, headers=headers, timeout=60))

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, f"/_simulator/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def advance(self, seconds: float) -> None:
        self.control("POST", "advance", {"seconds": seconds})

    def fault(self, effect: dict[str, Any], **match: Any) -> None:
        self.control("POST", "faults", {"effect": effect, "match": match})

    def batches_at(self, provider: str) -> int:
        return int(self.control("GET", "state")["batch_counts"][provider])

    def upload(self, content: bytes, name: str = "batch.jsonl") -> str:
        return self.openai.files.create(file=(name, content), purpose="batch").id

    def openai_batch(self, entries: Iterable[Any], endpoint: Any = "/v1/responses", **more: Any) -> Batch:
        file_id = self.upload(entries if isinstance(entries, bytes) else jsonl(entries))
        return self.openai.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more)

    def openai_ended(self, entries: Iterable[Any], endpoint: Any = "/v1/responses", **more: Any) -> Batch:
        batch = self.openai_batch(entries, endpoint, **more)
        self.advance(OPENAI_LIFE)
        return self.openai.batches.retrieve(batch.id)

    def openai_lines(self, batch: Batch) -> dict[str, dict[str, Any]]:
        """Both files' lines by custom_id."""
        ids = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
        raw = b"".join(self.openai.files.content(file_id).content for file_id in ids)
        return {line["custom_id"]: line for line in map(json.loads, raw.split(b"\n")[:-1])}

    def anthropic_batch(self, entries: Iterable[Any]) -> MessageBatch:
        return self.anthropic.messages.batches.create(requests=list(entries))

    def anthropic_ended(self, entries: Iterable[Any]) -> MessageBatch:
        batch = self.anthropic_batch(entries)
        self.advance(SLOW.in_progress)
        return self.anthropic.messages.batches.retrieve(batch.id)

    def anthropic_raw(self, batch: MessageBatch) -> bytes:
        answer = self.http.get(f"/v1/messages/batches/{batch.id}/results")
        assert answer.status_code == 200, answer.text
        return answer.content

    def anthropic_lines(self, batch: MessageBatch) -> dict[str, dict[str, Any]]:
        raw = self.anthropic_raw(batch)
        return {line["custom_id"]: line["result"] for line in map(json.loads, raw.split(b"\n")[:-1])}


def open_bench(stack: ExitStack, **config: Any) -> Bench:
    return Bench(stack.enter_context(running(SimulatorConfig(**{"stages": SLOW, **config}))), stack)


Simulate = Callable[..., Bench]
