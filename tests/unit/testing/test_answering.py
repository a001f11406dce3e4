"""A Task and what the model says to it, without any server."""

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from overnight import Outcome, RawRequest, Task
from overnight.errors import CustomIdError, RequestError, UnknownModelError, UsageError
from overnight.simulator import DefaultResponder, ModelRequest
from overnight.testing import answer, calls_tool, cut_off, errored, refused, vector

EVERY_ENDPOINT = [
    ("openai", "gpt-5.4-mini", "/v1/responses"),
    ("openai", "gpt-5.4-mini", "/v1/chat/completions"),
    ("anthropic", "claude-haiku-4-5", "/v1/messages"),
]


class Sentiment(BaseModel):
    label: Literal["good", "bad"]


class Judge(Task[Sentiment], name="answering-judge"):
    review: str
    system = "You judge."
    max_tokens = 20

    def prompt(self) -> str:
        return f"How is this? {self.review}"


class Say(Task[str], name="answering-say"):
    def prompt(self) -> str:
        return "Say something."


class Embed(Task[list[float]], name="answering-embed"):
    def prompt(self) -> str:
        return "these words"


class Keyed(BaseModel):
    scores: dict[str, int]


class Unsayable(Task[Keyed], name="answering-unsayable"):
    """Strict schemas know no objects with keys of their own."""

    def prompt(self) -> str:
        return "?"


@pytest.mark.parametrize(("provider", "model", "endpoint"), EVERY_ENDPOINT)
@pytest.mark.parametrize("reply", [{"label": "good"}, Sentiment(label="good"), '{"label": "good"}'])
async def test_an_answer_becomes_an_entry_with_task_output_usage_cost_and_line(
    provider: str, model: str, endpoint: str, reply: Any
) -> None:
    entry = await answer(Judge(review="Fine."), reply, provider=provider, model=model, endpoint=endpoint)

    assert (entry.outcome, entry.output) == (Outcome.SUCCEEDED, Sentiment(label="good"))
    assert (entry.task, entry.custom_id) == (Judge(review="Fine."), "answering-judge-1")
    assert entry.usage.input_tokens > 0
    assert entry.cost.billed is not None
    assert entry.cost.list_price == entry.cost.billed * 2
    assert json.loads(entry.response or "")["custom_id"].startswith("answering-judge-1")


@pytest.mark.parametrize("where", EVERY_ENDPOINT)
@pytest.mark.parametrize(
    ("reply", "outcome", "code"),
    [
        ({"label": "so-so"}, Outcome.INVALID, "invalid_output"),
        ("no JSON", Outcome.INVALID, "invalid_output"),
        ("", Outcome.INVALID, "blank"),
        (refused(), Outcome.INVALID, "refused"),
        (cut_off('{"label":'), Outcome.INVALID, "truncated"),
        ("far too many words " * 20, Outcome.INVALID, "truncated"),
        (errored("rate_limit"), Outcome.ERRORED, "rate_limit"),
        (Outcome.MISSING, Outcome.MISSING, "no_result_line"),
        (Outcome.EXPIRED, Outcome.EXPIRED, "expired"),
        (Outcome.CANCELED, Outcome.CANCELED, "cancel"),
    ],
)
async def test_what_is_no_answer_becomes_what_a_batch_would_make_of_it(
    where: tuple[str, str, str], reply: Any, outcome: Outcome, code: str
) -> None:
    provider, model, endpoint = where

    entry = await answer(Judge(review="Fine."), reply, provider=provider, model=model, endpoint=endpoint)

    assert entry.outcome is outcome
    assert code in (entry.error_code or "")
    assert entry.reason
    assert (entry.response is None) == (outcome is Outcome.MISSING)


@pytest.mark.parametrize("word", ["expired", "missing", "42"])
async def test_a_text_is_a_text_though_it_reads_like_an_outcome(word: str) -> None:
    assert (await answer(Say(), word)).output == word


async def test_a_vector_is_what_an_embedding_is_answered_with() -> None:
    options = {"model": "text-embedding-3-small", "endpoint": "/v1/embeddings"}

    assert (await answer(Embed(), vector(0.5, -1.0), **options)).output == [0.5, -1.0]


@pytest.mark.parametrize(("provider", "model", "endpoint"), EVERY_ENDPOINT)
async def test_a_tool_call_is_answered_in_the_providers_form(provider: str, model: str, endpoint: str) -> None:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Go."}], "input": "Go."}

    entry = await answer(
        RawRequest(body=body), calls_tool("look_up", {"id": 7}), provider=provider, model=model, endpoint=endpoint
    )

    assert (entry.outcome, entry.task) == (Outcome.SUCCEEDED, None)
    assert "look_up" in (entry.response or "")


async def test_a_callable_sees_what_is_asked() -> None:
    def judge(request: ModelRequest) -> dict[str, str]:
        assert request.system == "You judge."
        return {"label": "bad" if "broke" in request.prompt else "good"}

    assert (await answer(Judge(review="It broke."), judge)).output.label == "bad"
    assert (await answer(Judge(review="It works."), judge)).output.label == "good"


async def test_what_a_callable_raises_comes_out() -> None:
    def doubt(request: ModelRequest) -> str:
        raise AssertionError(request.model)

    with pytest.raises(AssertionError, match="gpt-5"):
        await answer(Say(), doubt)


async def test_the_simulators_own_answer_fits_the_schema() -> None:
    assert (await answer(Judge(review="Fine."), DefaultResponder())).output.label in {"good", "bad"}


async def test_a_schema_that_the_provider_would_refuse_is_refused() -> None:
    with pytest.raises(RequestError, match="scores"):
        await answer(Unsayable(), {"scores": {}})


async def test_slips_are_told_as_a_batch_tells_them() -> None:
    with pytest.raises(CustomIdError):
        await answer(Say(), "Hello.", custom_id="a b")
    with pytest.raises(UnknownModelError, match="gpt-5"):
        await answer(Say(), "Hello.", provider="anthropic")
    with pytest.raises(RequestError, match="/v1/messages"):
        await answer(Say(), "Hello.", endpoint="/v1/messages")
    with pytest.raises(UsageError, match="No model answers 'succeeded'"):
        await answer(Say(), Outcome.SUCCEEDED)
