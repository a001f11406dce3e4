import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.batches import BatchStatus, Outcome, Progress, Usage
from overnight.errors import AmbiguousProviderError, PermanentProviderError, RequestError, ResponseError
from overnight.providers._anthropic_facts import AnthropicFacts
from overnight.providers.anthropic import Anthropic, status_of
from overnight.providers.base import (
    EntryLine,
    MalformedLineError,
    Message,
    Prompt,
    ProviderReport,
    ResultLine,
    ResultPosition,
    Undecided,
)

TOKEN = "ab12cd34"
facts = AnthropicFacts()
MESSAGES = "/v1/messages"


def batch(total: int = 5, word: str = "in_progress", **changes: Any) -> dict[str, Any]:
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if word == "ended":
        counts |= {"processing": 0, "succeeded": total}
    return {
        "id": "msgbatch_1",
        "processing_status": word,
        "request_counts": counts,
        "created_at": "2026-11-21T12:00:00Z",
        "cancel_initiated_at": None,
        "results_url": "https://evil.example/results",
    } | changes


def line(result: Any, custom_id: Any = f"e-1-{TOKEN}") -> bytes:
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def parse(raw: bytes) -> ResultLine:
    return facts.parse_line(raw, TOKEN)


def listed(*batches: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"data": list(batches), "has_more": more}


# Creating


async def test_the_create_is_one_exact_json_body(
    anthropic: Anthropic, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any
) -> None:
    fake.then(batch())
    assert await anthropic.upload(submission(), start_pages(*entries)) is None
    report = await anthropic.create(submission(), start_pages(*entries))
    assert (report.provider_batch_id, report.status) == ("msgbatch_1", BatchStatus.IN_PROGRESS)
    (request,) = fake.requests
    assert request.headers["content-length"] == str(len(request.content))
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "x-api-key" in request.headers
    assert json.loads(request.content) == {
        "requests": [
            {"custom_id": f"{entry.custom_id}-{TOKEN}", "params": json.loads(entry.request)} for entry in entries
        ]
    }
    framing = len(request.content) - submission().request_bytes
    assert framing <= AnthropicFacts.frame_bytes * len(entries) + 20


async def test_rows_that_changed_since_they_were_counted_make_no_batch(
    anthropic: Anthropic, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any
) -> None:
    for changed in (entries[:-1], [*entries, entries[0]]):
        with pytest.raises(PermanentProviderError, match="bytes"):
            await anthropic.create(submission(), start_pages(*changed))


async def test_a_create_without_an_answer_is_in_doubt(
    anthropic: Anthropic, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any
) -> None:
    fake.then(httpx.ReadError("reset"))
    with pytest.raises(AmbiguousProviderError):
        await anthropic.create(submission(), start_pages(*entries))
    assert len(fake.asked) == 1


async def test_the_marker_is_the_newest_batch_there_is(anthropic: Anthropic, fake: Any) -> None:
    fake.then(listed(batch(id="new")), listed())
    assert await anthropic.newest() == "new"
    assert await anthropic.newest() is None
    assert fake.asked[0] == "GET /v1/messages/batches?limit=1"


async def test_a_spend_limit_that_somebody_set_is_not_waited_for(anthropic: Anthropic, fake: Any) -> None:
    error = {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}}
    fake.then(httpx.Response(429, json={"type": "error", "error": error}))
    with pytest.raises(PermanentProviderError) as caught:
        await anthropic.fetch("x")
    assert caught.value.code == "enforced_spend_limit_reached"


# Finding


def results(*ids: str) -> httpx.Response:
    return httpx.Response(200, content=b"\n".join(line({"type": "expired"}, custom_id) for custom_id in ids))


async def test_nothing_is_looked_for_before_anything_can_have_been_sent(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    assert await anthropic.find(submission(started_at=None)) is None
    assert fake.asked == []


async def test_no_batch_since_the_marker_means_that_none_was_made(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch(id="marker"), batch(id="older"), more=True))
    assert await anthropic.find(submission(marker="marker")) is None


async def test_a_marker_that_was_deleted_does_not_lead_into_the_past(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    long_ago = (submission().started_at - timedelta(minutes=11)).isoformat()
    fake.then(listed(batch(created_at=long_ago), batch(id="b"), more=True))
    assert await anthropic.find(submission(marker="deleted")) is None


async def test_a_clock_that_is_behind_ours_does_not_hide_our_batch(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    behind = (submission().started_at - timedelta(minutes=9)).isoformat()
    fake.then(listed(batch(created_at=behind)))
    assert isinstance(await anthropic.find(submission()), Undecided)


async def test_a_batch_of_another_size_is_no_candidate(anthropic: Anthropic, fake: Any, submission: Any) -> None:
    fake.then(listed(batch(4), batch(6)))
    assert await anthropic.find(submission()) is None


async def test_a_candidate_that_still_runs_decides_nothing(anthropic: Anthropic, fake: Any, submission: Any) -> None:
    fake.then(listed(batch()))
    assert isinstance(await anthropic.find(submission()), Undecided)


async def test_a_candidate_that_another_batch_of_ours_owns_is_none(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch()))
    assert await anthropic.find(submission(), claimed=["msgbatch_1"]) is None


async def test_results_with_our_token_prove_a_candidate(anthropic: Anthropic, fake: Any, submission: Any) -> None:
    fake.then(
        listed(batch(id="theirs", word="ended"), batch(id="running"), more=True),
        results("e-1-zzzzzzzz"),
        listed(batch(id="ours", word="ended")),
        httpx.Response(200, content=b"{broken\n\n" + line({"type": "expired"})),
    )
    report = await anthropic.find(submission())
    assert not isinstance(report, Undecided)
    assert report is not None
    assert report.provider_batch_id == "ours"
    assert fake.asked[1:] == [
        "GET /v1/messages/batches/theirs/results",
        "GET /v1/messages/batches?limit=100&after_id=running",
        "GET /v1/messages/batches/ours/results",
    ]


async def test_results_with_another_token_rule_a_candidate_out(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch(word="ended")), results("e-1-zzzzzzzz", "e-2-zzzzzzzz"))
    assert await anthropic.find(submission()) is None


async def test_one_line_with_our_token_proves_a_candidate_whatever_stands_before_it(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch(word="ended")), results("nobody-sent-this", f"e-2-{TOKEN}"))
    assert isinstance(await anthropic.find(submission()), ProviderReport)


async def test_a_candidate_whose_results_are_gone_decides_nothing(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    gone = httpx.Response(404, json={"type": "error", "error": {"type": "not_found_error", "message": "gone"}})
    fake.then(listed(batch(word="ended")), gone)
    assert isinstance(await anthropic.find(submission()), Undecided)


async def test_a_candidate_whose_results_say_nothing_decides_nothing(
    anthropic: Anthropic, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch(word="ended")), httpx.Response(200, content=b"{}\n[]\n"))
    assert isinstance(await anthropic.find(submission()), Undecided)


# Looking, canceling, reading

counts = st.fixed_dictionaries(
    {name: st.integers(0, 3) for name in ("processing", "succeeded", "errored", "canceled", "expired")}
)


@given(st.sampled_from(["ended", "in_progress", "canceling", "ENDED"]) | st.text(), counts, st.none() | st.just("t"))
def test_every_status_has_one_meaning_and_only_ended_is_terminal(word: str, of: dict[str, int], cancel: Any) -> None:
    status = status_of({"processing_status": word, "request_counts": of, "cancel_initiated_at": cancel})
    assert status.is_terminal == (word.lower() == "ended")
    assert status not in (BatchStatus.FAILED, BatchStatus.PENDING, BatchStatus.SUBMITTED)


@pytest.mark.parametrize(
    ("of", "cancel", "status"),
    [
        ({"succeeded": 5}, None, BatchStatus.ENDED),
        ({"errored": 5}, None, BatchStatus.ENDED),
        ({"succeeded": 5}, "t", BatchStatus.ENDED),
        ({"succeeded": 4, "canceled": 1}, "t", BatchStatus.CANCELED),
        ({"expired": 5}, None, BatchStatus.EXPIRED),
        ({"expired": 4, "succeeded": 1}, None, BatchStatus.ENDED),
        ({}, None, BatchStatus.ENDED),
    ],
)
def test_the_one_end_is_told_apart_by_counts(of: dict[str, int], cancel: Any, status: BatchStatus) -> None:
    found = status_of({"processing_status": "ended", "request_counts": of, "cancel_initiated_at": cancel})
    assert found is status


def test_an_unknown_status_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert status_of({"processing_status": "dreaming"}) is BatchStatus.IN_PROGRESS
    assert "dreaming" in caplog.text


async def test_progress_counts_what_is_no_longer_open(anthropic: Anthropic, fake: Any) -> None:
    of = {"processing": 0, "succeeded": 5, "errored": 3, "canceled": 2, "expired": 1}
    fake.then(batch(), batch(word="ended", request_counts=of))
    assert (await anthropic.fetch("x")).progress == Progress(total=5, done=0, failed=0)
    assert (await anthropic.fetch("x")).progress == Progress(total=11, done=11, failed=6)


@pytest.mark.parametrize("word", ["ended", "canceling"])
async def test_a_cancel_that_comes_too_late_reports_what_is(anthropic: Anthropic, fake: Any, word: str) -> None:
    fake.then(httpx.Response(400, json={"error": {"type": "invalid_request_error"}}), batch(word=word))
    assert (await anthropic.cancel("b")).status_word == word
    assert fake.asked == ["POST /v1/messages/batches/b/cancel", "GET /v1/messages/batches/b"]


async def test_a_cancel_that_is_refused_for_another_reason_is_an_error(anthropic: Anthropic, fake: Any) -> None:
    fake.then(httpx.Response(400, json={"error": {"type": "t", "message": "no"}}), batch())
    with pytest.raises(PermanentProviderError, match="no"):
        await anthropic.cancel("b")


async def test_results_are_read_from_our_own_address_whatever_the_batch_says(anthropic: Anthropic, fake: Any) -> None:
    fake.then(batch(word="ended"), httpx.Response(200, content=b"1\n2\n3"))
    report = await anthropic.fetch("msgbatch_1")
    blocks = [block async for block in anthropic.results(report, ResultPosition(source="results", offset=2))]
    assert [raw for block in blocks for raw in block.lines] == [b"2", b"3"]
    assert blocks[-1].position == ResultPosition(source="results", offset=5)
    assert str(fake.requests[-1].url) == "http://fake/v1/messages/batches/msgbatch_1/results"


# Lines


def test_an_answer_is_a_success_with_its_usage() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 30},
    }
    result = parse(line({"type": "succeeded", "message": {"content": [], "usage": usage}}))
    assert (result.custom_id, result.outcome) == ("e-1", Outcome.SUCCEEDED)
    assert result.usage == Usage(
        input_tokens=3210,
        cache_read_tokens=3000,
        cache_write_tokens=200,
        cache_write_1h_tokens=150,
        output_tokens=40,
        reasoning_tokens=30,
    )


NESTED = {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}, "request_id": None}


@pytest.mark.parametrize(
    ("result", "outcome", "code", "reason"),
    [
        ({"type": "errored", "error": NESTED}, "errored", "invalid_request_error", "m"),
        ({"type": "errored", "error": NESTED["error"]}, "errored", "invalid_request_error", "m"),
        ({"type": "errored"}, "errored", "error", None),
        ({"type": "errored", "error": "x"}, "errored", "error", None),
        ({"type": "canceled"}, "canceled", "canceled", "The batch was canceled before this entry was processed."),
        ({"type": "expired"}, "expired", "expired", "The batch expired before this entry was processed."),
        ({"type": "new\0"}, "errored", "unknown_result", "A result of the unknown type 'new'."),
        ({"type": ["x"]}, "errored", "unknown_result", "A result of the unknown type None."),
        ({"type": "succeeded"}, "errored", "no_message", "The result says that it succeeded, and has no message."),
        ("x", "errored", "unknown_result", "A result of the unknown type None."),
        (None, "errored", "unknown_result", "A result of the unknown type None."),
    ],
)
def test_each_kind_of_result_keeps_its_code_and_reason(
    result: Any, outcome: str, code: str, reason: str | None
) -> None:
    found = parse(line(result))
    assert (found.outcome, found.error_code, found.reason) == (outcome, code, reason)
    assert found.usage == Usage()


@pytest.mark.parametrize(
    "custom_id", ["e-1", "e-1-zzzzzzzz", f"-{TOKEN}", TOKEN, f"e 1-{TOKEN}", 7, None, "", f"e-1-{TOKEN}x", "\ud800"]
)
def test_an_id_without_our_token_is_not_ours(custom_id: Any) -> None:
    with pytest.raises(MalformedLineError):
        parse(line({"type": "expired"}, custom_id))


def test_the_longest_custom_id_fits_on_the_wire() -> None:
    assert parse(line({"type": "expired"}, "a" * 55 + f"-{TOKEN}")).custom_id == "a" * 55
    with pytest.raises(MalformedLineError):
        parse(line({"type": "expired"}, "a" * 56 + f"-{TOKEN}"))


@pytest.mark.parametrize("odd", [b"NaN", b'"\\ud800"', b'"\xff"', b"[" * 300 + b"]" * 300])
def test_a_line_that_only_a_lenient_reader_takes_is_that_entrys_error(odd: bytes) -> None:
    found = parse(b'{"custom_id":"e-1-' + TOKEN.encode() + b'","result":' + odd + b"}")
    assert (found.custom_id, found.outcome, found.error_code) == ("e-1", Outcome.ERRORED, "unreadable_line")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.lists(st.sampled_from(["\ud800", "\0", "\u2028", "a", "ż", "🦉"])).map("".join)
    | st.sampled_from(["succeeded", "errored", "text", "tool_use", "refusal", "max_tokens"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "message",
                    "error",
                    "usage",
                    "content",
                    "text",
                    "input_tokens",
                    "cache_creation",
                    "output_tokens_details",
                    "stop_reason",
                    "id",
                    "name",
                    "input",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_result_or_malformed(raw: bytes) -> None:
    with suppress(MalformedLineError):
        assert isinstance(parse(raw), ResultLine)


@given(json_values)
def test_any_line_with_our_custom_id_has_one_outcome(result: Any) -> None:
    found = parse(line(result))
    assert found.custom_id == "e-1"
    for text in (found.error_code, found.reason):
        assert text is None or ("\0" not in text and text.encode())


@given(json_values)
def test_any_answer_can_be_read_or_is_refused_by_name(message: Any) -> None:
    with suppress(ResponseError):
        facts.read_response(line({"type": "succeeded", "message": message}), endpoint=MESSAGES)


# Answers


def read(stop: str, *content: dict[str, Any]) -> Any:
    message = {"content": list(content), "stop_reason": stop}
    return facts.read_response(line({"type": "succeeded", "message": message}), endpoint=MESSAGES)


def test_an_answer_is_its_text_blocks_without_the_thinking() -> None:
    answer = read(
        "tool_use",
        {"type": "thinking", "thinking": "hm"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": '{"a":'},
        {"type": "text", "text": "1}"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    )
    assert (answer.text, answer.refusal, answer.truncated) == ('{"a":1}', None, False)
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [("t", "f", {"x": 1})]


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
def test_an_answer_that_was_cut_says_so(stop: str) -> None:
    assert read(stop, {"type": "text", "text": "half"}).truncated


def test_a_refusal_is_in_the_models_words_where_there_are_any() -> None:
    assert read("refusal", {"type": "text", "text": "I will not."}).refusal == "I will not."
    assert read("refusal").refusal
    assert read("end_turn", {"type": "text", "text": "fine"}).refusal is None


# Requests

HI = [Message(role="user", content="Hi")]


def test_a_prompt_becomes_a_messages_request() -> None:
    prompt = Prompt(
        messages=HI,
        system="Be brief.",
        output_schema={"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}},
        max_tokens=99,
        temperature=0,
        reasoning_effort="low",
    )
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "description": "(minimum: 0)"}},
        "required": [],
        "additionalProperties": False,
    }
    assert facts.render(prompt, model="claude-x", endpoint=MESSAGES) == {
        "model": "claude-x",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "temperature": 0,
        "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"},
    }


def test_a_number_of_tokens_is_always_asked_for() -> None:
    assert facts.render(Prompt(messages=HI), model="claude-x", endpoint=MESSAGES) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        (Prompt(messages=[]), "messages"),
        (Prompt(messages=[Message(role="user", content=" ")]), r"messages\[0\].content"),
        (Prompt(messages=HI, temperature=1.5), "temperature"),
        (Prompt(messages=HI, max_tokens=0), "max_tokens"),
    ],
)
def test_a_prompt_that_cannot_be_taken_names_the_field(prompt: Prompt, field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}"):
        facts.render(prompt, model="claude-x", endpoint=MESSAGES)


GOOD = {"model": "claude-x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "claude-y"}, "model"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_a_ready_made_body_that_cannot_be_taken_names_the_field(change: dict[str, Any], field: str) -> None:
    facts.check(GOOD, model="claude-x", endpoint=MESSAGES)
    with pytest.raises(RequestError, match=f"^{field}"):
        facts.check(GOOD | change, model="claude-x", endpoint=MESSAGES)


def test_only_claude_is_taken() -> None:
    assert facts.supports_batch("claude-x")
    assert not facts.supports_batch("gpt-x")
