"""What we say of a request beforehand, held against what the simulator counts, which shares no code with us."""

from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import from_json

from overnight.intake import Intake, RawRequest
from overnight.providers import provider_facts
from overnight.simulator.questions import read_request
from overnight.tasks import Task

CASES = [
    ("openai", "/v1/responses", "gpt-5-mini"),
    ("openai", "/v1/chat/completions", "gpt-5-mini"),
    ("anthropic", "/v1/messages", "claude-haiku-4-5"),
]


class Verdict(BaseModel):
    label: Literal["good", "bad"]
    why: str


class Judge(Task[Verdict], name="weights.judge"):
    text: str
    system = "You judge texts, and you judge them hard but fairly."
    max_tokens = 300

    def prompt(self) -> str:
        return f"Judge this:\n\n{self.text}"


def counted(endpoint: str, body: Any) -> int:
    return read_request(endpoint, body, custom_id=None, rng=Random(1)).input_tokens


@pytest.mark.parametrize(("provider", "endpoint", "model"), CASES)
@given(text=st.text(min_size=1, max_size=2_000))
def test_a_rendered_task_is_weighed_within_ten_percent(provider: str, endpoint: str, model: str, text: str) -> None:
    facts = provider_facts(provider)
    entry = Intake(facts, model=model, endpoint=endpoint).entry(Judge(text=text))
    body = from_json(entry.request)
    weight = facts.weigh(body, endpoint=endpoint)
    assert weight.tokens == pytest.approx(counted(endpoint, body), rel=0.1)
    assert (weight.max_output_tokens, weight.uncounted) == (300, frozenset())


PARTS = {
    "/v1/responses": {"type": "input_text", "text": "Some text, twice as long as it has to be. " * 20},
    "/v1/chat/completions": {"type": "text", "text": "Some text, twice as long as it has to be. " * 20},
    "/v1/messages": {"type": "text", "text": "Some text, twice as long as it has to be. " * 20},
}


@pytest.mark.parametrize(("provider", "endpoint", "model"), CASES)
def test_a_conversation_in_parts_is_weighed_within_ten_percent(provider: str, endpoint: str, model: str) -> None:
    part = PARTS[endpoint]
    said = part | {
        "type": part["type"].replace("input", "output")
    }  # which is what `/v1/responses` wants of an assistant
    turns = [
        {"role": role, "content": [said if role == "assistant" else part] * 2} for role in ("user", "assistant", "user")
    ]
    body = {"model": model, "max_tokens": 50, ("input" if endpoint == "/v1/responses" else "messages"): turns}
    RawRequest(body=body)
    weight = provider_facts(provider).weigh(body, endpoint=endpoint)
    assert weight.tokens == pytest.approx(counted(endpoint, body), rel=0.1)


def test_embeddings_of_several_texts_are_weighed_together() -> None:
    body = {"model": "text-embedding-3-small", "input": ["some text to embed " * 30, "some other text " * 20]}
    weight = provider_facts("openai").weigh(body, endpoint="/v1/embeddings")
    assert weight.tokens == pytest.approx(counted("/v1/embeddings", body), rel=0.1)
    assert weight.max_output_tokens == 0
