"""Who answers, how it is counted, and that the same seed says the same."""

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.simulator import Message, ModelReply, ModelRequest, Responder, ToolCall
from overnight.simulator.jsontext import dump
from overnight.simulator.questions import read_request
from overnight.simulator.responders import load_responder, unit_vector
from overnight.simulator.tokens import BYTES_PER_TOKEN, count_tokens, truncate
from tests.conformance.bench import CLOSED_SCHEMA, Bench, Simulate, anthropic_entry, openai_entry


def without_times(raw: bytes) -> bytes:
    return re.sub(rb'"(created|created_at|completed_at)":\d+', b"", raw)


def lines_of(bench: Bench) -> tuple[bytes, bytes]:
    form = {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": CLOSED_SCHEMA}}
    batch = bench.openai_ended([openai_entry(f"e-{n}", text=form) for n in range(30)])
    assert batch.output_file_id is not None
    message_batch = bench.anthropic_ended([anthropic_entry(f"e-{n}", prompt=f"night {n}") for n in range(30)])
    return without_times(bench.openai.files.content(batch.output_file_id).content), bench.anthropic_raw(message_batch)


def test_the_same_requests_and_seed_give_the_same_lines(simulate: Simulate) -> None:
    first, again, other = (lines_of(simulate(seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_two_batches_of_the_same_requests_have_ids_of_their_own(bench: Bench) -> None:
    first, again = (bench.anthropic_lines(bench.anthropic_ended([anthropic_entry("a")])) for _ in range(2))
    assert first["a"]["message"]["id"] != again["a"]["message"]["id"]
    assert first["a"]["message"]["content"] == again["a"]["message"]["content"]


def test_a_responder_of_ones_own_sees_one_neutral_request(simulate: Simulate) -> None:
    seen: dict[str, ModelRequest] = {}

    def respond(request: ModelRequest, /) -> ModelReply:
        seen[request.provider] = request
        return ModelReply(value={"mood": "good"}, input_tokens=7, output_tokens=3)

    bench = simulate(responder=respond)
    tool = {"name": "judge", "parameters": {"type": "object"}}
    openai = openai_entry(
        "a", prompt="Hi", instructions="Be brief", tools=[{"type": "function", **tool}], max_output_tokens=50
    )
    batch = bench.openai_ended([openai])
    claude_tool = {"name": "judge", "input_schema": {"type": "object"}}
    bench.anthropic_ended([anthropic_entry("a", prompt="Hi", system="Be brief", tools=[claude_tool], max_tokens=50)])
    for request in (seen["openai"], seen["anthropic"]):
        assert (request.custom_id, request.prompt, request.system, request.max_tokens) == ("a", "Hi", "Be brief", 50)
        assert request.messages == (Message(role="user", text="Hi"),)
        assert [(t.name, t.schema) for t in request.tools] == [("judge", {"type": "object"})]
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (7, 3)


def test_a_responder_that_raises_spoils_one_entry_only(simulate: Simulate, caplog: pytest.LogCaptureFixture) -> None:
    def respond(request: ModelRequest, /) -> ModelReply:
        if request.custom_id == "bad":
            raise RuntimeError("no answer")
        return ModelReply(text="fine")

    bench = simulate(responder=respond)
    lines = bench.openai_lines(bench.openai_ended([openai_entry("good"), openai_entry("bad")]))
    assert {name: line["response"]["status_code"] for name, line in lines.items()} == {"good": 200, "bad": 500}


def test_a_responder_is_loaded_by_name() -> None:
    loaded = load_responder("tests.conformance.slow_responder:Slow")
    assert isinstance(loaded, Responder)
    with pytest.raises(ValueError, match="module:attribute"):
        load_responder("json")
    with pytest.raises(ValueError, match="not callable"):
        load_responder("json:__name__")


@given(text=st.text(), budget=st.integers(1, 50))
def test_a_truncated_text_is_a_prefix_within_its_budget(text: str, budget: int) -> None:
    kept, cut = truncate(text, budget)
    assert text.startswith(kept)
    assert count_tokens(kept) <= budget
    assert cut == (kept != text)


@given(text=st.text(st.characters(), max_size=200))
def test_tokens_are_a_quarter_of_the_bytes_rounded_up(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert (count_tokens(text) - 1) * BYTES_PER_TOKEN < size <= count_tokens(text) * BYTES_PER_TOKEN or size == 0


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_that_is_written_reads_back_the_same(value: Any) -> None:
    raw = dump(value)
    assert b"\n" not in raw
    assert json.loads(raw) == value


def test_a_line_separator_stays_raw_and_a_lone_surrogate_is_escaped() -> None:
    assert dump("a\u2028b") == '"a\u2028b"'.encode()
    assert dump("a\ud800b") == rb'"a\ud800b"'


def test_equal_texts_embed_equally_and_have_length_one() -> None:
    one = unit_vector("night", 32)
    assert one == unit_vector("night", 32) != unit_vector("day", 32)
    assert sum(x * x for x in one) == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (
            [
                {"type": "tool_result", "content": [{"type": "text", "text": "inner"}]},
                {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
            ],
            "inner\n",
        ),
    ],
)
def test_the_text_of_every_form_of_content_is_found(content: Any, text: str) -> None:
    body = {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    request = read_request("/v1/messages", body, custom_id=None, rng=Random(1))
    assert request.prompt == text


def test_token_arrays_can_be_embedded(bench: Bench) -> None:
    entries = [
        openai_entry("a", url="/v1/embeddings", input=[1, 2, 3]),
        openai_entry("b", url="/v1/embeddings", input=[[1], [2]]),
    ]
    lines = bench.openai_lines(bench.openai_ended(entries, "/v1/embeddings"))
    assert [len(lines[name]["response"]["body"]["data"]) for name in ("a", "b")] == [1, 2]


def test_a_reply_with_tool_calls_is_written_for_each_endpoint(simulate: Simulate) -> None:
    bench = simulate(responder=lambda _request: ModelReply(tool_calls=(ToolCall(name="t", arguments={"é": 1}),)))
    for url in ("/v1/responses", "/v1/chat/completions"):
        line = bench.openai_lines(bench.openai_ended([openai_entry("a", url=url)], url))["a"]
        assert '{\\"é\\":1}' in json.dumps(line, ensure_ascii=False)
