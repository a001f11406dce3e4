"""A task answered now, over real sockets: no batch, no Postgres, no Temporal."""

import json
from decimal import Decimal
from typing import Any, Literal

import anthropic
import openai
import pytest
from anthropic.types import Message as ClaudeMessage
from openai.types.chat import ChatCompletion
from openai.types.responses import Response as OpenAIResponse
from pydantic import BaseModel, SecretStr, TypeAdapter

from overnight import running
from overnight.batches import Entry, Outcome
from overnight.content import File, Image
from overnight.costs import cost_of
from overnight.errors import AmbiguousProviderError, PermanentProviderError, TransientProviderError, UsageError
from overnight.intake import RawRequest
from overnight.provider_tools import CodeExecution, WebSearch
from overnight.providers import supports_batch
from overnight.running import run
from overnight.settings import Settings
from overnight.simulator import ModelReply, ModelRequest, ToolCall
from overnight.tasks import Task
from tests.conformance.bench import CLAUDE, EMBEDDER, GPT, Bench, Simulate

PLACES = [
    ("openai", GPT, "/v1/responses"),
    ("openai", GPT, "/v1/chat/completions"),
    ("anthropic", CLAUDE, "/v1/messages"),
]
TYPES: dict[str, TypeAdapter[Any]] = {
    "/v1/responses": TypeAdapter(OpenAIResponse),
    "/v1/chat/completions": TypeAdapter(ChatCompletion),
    "/v1/messages": TypeAdapter(ClaudeMessage),
}
PNG, PDF = b"\x89PNG\r\n\x1a\n rest", b"%PDF-1.7 rest"


class Mood(BaseModel):
    mood: Literal["good", "bad"]
    score: float


class Ask(Task[Mood], name="running: ask"):
    text: str = "How was the night?"

    def prompt(self) -> str:
        return self.text


class Look(Task[str], name="running: look"):
    def prompt(self) -> list[str | Image | File]:
        return [Image(data=PNG), Image(url="https://x.example/a.png"), File(data=PDF, name="a.pdf"), "What is it?"]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Sum(Task[str], name="running: sum"):
    tools = (add,)
    tool_choice = "add"

    def prompt(self) -> str:
        return "1 and 2?"


class Search(Task[str], name="running: search"):
    provider_tools = (WebSearch(), CodeExecution())

    def prompt(self) -> str:
        return "What is new?"


class Embed(Task[list[float]], name="running: embed"):
    def prompt(self) -> str:
        return "night"


def settings(bench: Bench) -> Settings:
    return Settings(
        openai_api_key=SecretStr("test-key"),
        openai_base_url=bench.where.openai_base_url,
        anthropic_api_key=SecretStr("test-key"),
        anthropic_base_url=bench.where.anthropic_base_url,
    )


def body_of(entry: Entry[Any]) -> Any:
    """The provider's answer in the line that a batch would have given."""
    line = json.loads(entry.response or "")
    return line["result"]["message"] if "result" in line else line["response"]["body"]


@pytest.mark.parametrize(("provider", "model", "endpoint"), PLACES)
async def test_a_task_is_answered_with_its_output_its_usage_and_its_full_price(
    bench: Bench, provider: str, model: str, endpoint: str
) -> None:
    entry = await run(Ask(), provider=provider, model=model, endpoint=endpoint, settings=settings(bench))
    assert isinstance(entry.output, Mood)
    assert (entry.outcome, entry.custom_id, entry.task) == (Outcome.SUCCEEDED, "running--ask", Ask())
    full = cost_of(entry.usage, provider=provider, model=model)
    assert entry.cost.billed == entry.cost.list_price == full.list_price
    assert full.billed is not None
    assert entry.cost.billed == full.billed * 2
    assert entry.cost.billed > Decimal(0)
    TYPES[endpoint].validate_json(json.dumps(body_of(entry)), strict=True)


async def test_an_embedding_is_answered(bench: Bench) -> None:
    entry = await run(Embed(), provider="openai", model=EMBEDDER, endpoint="/v1/embeddings", settings=settings(bench))
    assert len(entry.output) == 1536


async def test_a_raw_request_is_answered_as_it_comes(bench: Bench) -> None:
    item = RawRequest(body={"model": GPT, "input": "Hello."})
    entry = await run(item, provider="openai", model=GPT, settings=settings(bench))
    assert (entry.outcome, entry.custom_id, entry.task) == (Outcome.SUCCEEDED, "request", None)
    assert body_of(entry)["object"] == "response"


@pytest.mark.parametrize(("provider", "model", "endpoint"), PLACES)
async def test_images_and_files_arrive(simulate: Simulate, provider: str, model: str, endpoint: str) -> None:
    seen: list[ModelRequest] = []

    def respond(request: ModelRequest, /) -> ModelReply:
        seen.append(request)
        return ModelReply(text="An owl.")

    entry = await run(
        Look(), provider=provider, model=model, endpoint=endpoint, settings=settings(simulate(responder=respond))
    )
    assert entry.output == "An owl."
    assert seen[0].attachments == ("image/png", "url", "application/pdf")


@pytest.mark.parametrize(("provider", "model", "endpoint"), PLACES)
async def test_the_tools_that_an_answer_asks_for_are_called(
    bench: Bench, provider: str, model: str, endpoint: str
) -> None:
    entry = await run(Sum(), provider=provider, model=model, endpoint=endpoint, settings=settings(bench))
    (call,) = entry.tool_calls
    assert (entry.outcome, call.name) == (Outcome.SUCCEEDED, "add")
    assert call.result == call.arguments["a"] + call.arguments["b"]
    TYPES[endpoint].validate_json(json.dumps(body_of(entry)), strict=True)


@pytest.mark.parametrize(("provider", "model", "endpoint"), PLACES)
async def test_an_answer_can_say_something_and_ask_for_tools(
    simulate: Simulate, provider: str, model: str, endpoint: str
) -> None:
    calls = (ToolCall(name="add", arguments={"a": 1, "b": 2, "c": 3}), ToolCall(name="gone", arguments={}))
    bench = simulate(responder=lambda _request: ModelReply(text="Adding.", tool_calls=calls))
    entry = await run(Sum(), provider=provider, model=model, endpoint=endpoint, settings=settings(bench))
    assert entry.output == "Adding."
    assert [(call.result, call.error_code) for call in entry.tool_calls] == [(3, None), (None, "unknown_tool")]
    TYPES[endpoint].validate_json(json.dumps(body_of(entry)), strict=True)


@pytest.mark.parametrize(("provider", "model", "endpoint"), [PLACES[0], PLACES[2]])
async def test_what_the_provider_did_itself_is_not_in_the_text(
    bench: Bench, provider: str, model: str, endpoint: str
) -> None:
    entry = await run(Search(), provider=provider, model=model, endpoint=endpoint, settings=settings(bench))
    body = body_of(entry)
    assert len(body.get("output") or body["content"]) >= 3
    assert (entry.output, entry.tool_calls) == ("What is new?", ())
    TYPES[endpoint].validate_json(json.dumps(body), strict=True)


async def test_an_answer_that_does_not_fit_is_an_invalid_entry(simulate: Simulate) -> None:
    bench = simulate(responder=lambda _request: ModelReply(text="no json"))
    entry = await run(Ask(), provider="openai", model=GPT, settings=settings(bench))
    assert (entry.outcome, entry.error_code, entry.output_or_none) == (Outcome.INVALID, "invalid_output", None)
    assert entry.usage.output_tokens > 0


# When things go wrong.


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_WAITS", (0.0, 0.0))


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.usefixtures("no_waits")
async def test_what_waiting_mends_is_waited_out(bench: Bench, status: int) -> None:
    bench.fault({"kind": "status", "status": status}, times=2)
    entry = await run(Ask(), provider="openai", model=GPT, settings=settings(bench))
    assert entry.succeeded


async def test_what_the_provider_asks_to_wait_is_kept_and_an_hour_is_too_long(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 429, "retry_after": 0}, times=3)
    assert (await run(Ask(), provider="openai", model=GPT, settings=settings(bench))).succeeded
    bench.fault({"kind": "status", "status": 429, "retry_after": 3600})
    with pytest.raises(TransientProviderError, match="429"):
        await run(Ask(), provider="openai", model=GPT, settings=settings(bench))


@pytest.mark.usefixtures("no_waits")
async def test_a_provider_that_cannot_answer_is_given_up_after_some_tries(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 500})
    with pytest.raises(TransientProviderError, match="500"):
        await run(Ask(), provider="anthropic", model=CLAUDE, settings=settings(bench))
    assert calls(bench, "messages.create") == 3


@pytest.mark.parametrize(
    "effect", [{"kind": "answer_lost"}, {"kind": "html", "status": 200}, {"kind": "status", "status": 504}]
)
async def test_a_request_whose_answer_is_lost_is_not_sent_again_and_may_be_billed(
    bench: Bench, effect: dict[str, Any]
) -> None:
    bench.fault(effect)
    with pytest.raises(AmbiguousProviderError, match="may have been answered and be billed"):
        await run(Ask(), provider="openai", model=GPT, settings=settings(bench))
    assert calls(bench, "responses.create") == 1


async def test_a_refusal_is_raised_at_once(bench: Bench) -> None:
    with pytest.raises(PermanentProviderError, match="model_not_found"):
        await run(Ask(), provider="openai", model="lama-7", settings=settings(bench))
    assert calls(bench, "responses.create") == 1


async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"Entry number 1: messages\[0\].content\[0\]: "):
        await run(Look(), provider="openai", model=GPT, endpoint="/v1/embeddings", settings=settings(bench))
    assert calls(bench, "embeddings.create") == 0


def calls(bench: Bench, operation: str) -> int:
    counted = bench.control("GET", "state")["calls"]
    return sum(row["count"] for row in counted if row["operation"] == operation)


def test_whether_a_model_can_be_batched_can_be_asked() -> None:
    assert supports_batch("anthropic", CLAUDE)
    assert not supports_batch("openai", "gpt-realtime")


# The simulator refuses what the providers refuse, in the words that their SDKs raise.


BAD_OPENAI: list[dict[str, Any]] = [
    {"input": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example"}}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/bmp;base64,AAAA"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,?"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x", "detail": "lowest"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}]}]},
    {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "https://x.example"}]}]},
    {"tools": [{"type": "function", "name": "a b", "parameters": {}}]},
    {"tools": [{"type": "function", "name": "a", "strict": True, "parameters": {"type": "object"}}]},
    {"tools": [{"type": "web_surf"}]},
    {"tools": [{"type": "code_interpreter"}]},
    {"tool_choice": "required"},
    {"tools": [{"type": "function", "name": "a", "parameters": {}}], "tool_choice": {"type": "function", "name": "b"}},
]


@pytest.mark.parametrize("body", BAD_OPENAI)
def test_openai_refuses_what_it_does_not_take(bench: Bench, body: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        bench.openai.responses.create(**{"model": GPT, "input": "?", **body})


def block(**source: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}


TOOL: dict[str, Any] = {"name": "a", "input_schema": {"type": "object"}}
BAD_ANTHROPIC: list[dict[str, Any]] = [
    block(type="base64", media_type="image/bmp", data="AAAA"),
    block(type="base64", media_type="image/png", data="?"),
    block(type="url", url="file:///etc/passwd"),
    block(type="text", media_type="text/plain", data="a"),
    {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]},
    {"tools": [TOOL | {"name": "a b"}]},
    {"tools": [TOOL, TOOL]},
    {"tools": [TOOL | {"strict": True}]},
    {"tools": [{"name": "a", "input_schema": {}}]},
    {"tools": [{"type": "web_search_20250305", "name": "search"}]},
    {"tool_choice": {"type": "any"}},
    {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "b"}},
]


@pytest.mark.parametrize("body", BAD_ANTHROPIC)
def test_anthropic_refuses_what_it_does_not_take(bench: Bench, body: dict[str, Any]) -> None:
    given = {"model": CLAUDE, "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    with pytest.raises(anthropic.BadRequestError):
        bench.anthropic.messages.create(**(given | body))
