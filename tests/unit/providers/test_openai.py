import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.batches import BatchStatus, Outcome, Progress, Usage
from overnight.errors import (
    IncompleteResultsError,
    PermanentProviderError,
    RequestError,
    ResponseError,
)
from overnight.providers._openai_facts import STATUSES, OpenAIFacts, status_of
from overnight.providers.base import (
    EntryLine,
    MalformedLineError,
    Message,
    Prompt,
    ProviderReport,
    ResultLine,
    ResultPosition,
    untold_by,
)
from overnight.providers.openai import OpenAI

facts = OpenAIFacts()
RESPONSES, CHAT, EMBEDDINGS = OpenAIFacts.endpoints


def batch(**changes: Any) -> dict[str, Any]:
    return {"id": "batch_1", "status": "in_progress", "created_at": 1795262400, "metadata": {}} | changes


def line(**changes: Any) -> bytes:
    return json.dumps({"id": "x", "custom_id": "e-1", "response": None, "error": None} | changes).encode()


def ok(body: Any, status: Any = 200) -> bytes:
    return line(response={"status_code": status, "request_id": "r", "body": body})


def parse(raw: bytes) -> ResultLine:
    return facts.parse_line(raw, "ab12cd34")


# Uploading and creating


async def test_the_upload_is_one_exact_multipart_body(
    openai: OpenAI, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any
) -> None:
    fake.then({"id": "file-1"})
    assert await openai.upload(submission(), start_pages(*entries)) == "file-1"
    request = fake.requests[0]
    assert request.headers["content-length"] == str(len(request.content))
    assert request.headers["authorization"].startswith("Bearer ")
    purpose, file = request.content.split(request.headers["content-type"].split("boundary=")[1].encode())[1:3]
    assert b'name="purpose"\r\n\r\nbatch\r\n' in purpose
    assert b'filename="overnight-00000000-0000-0000-0000-000000000007-ab12cd34.jsonl"' in file
    lines = [json.loads(raw) for raw in file.split(b"\r\n\r\n")[1].removesuffix(b"\r\n--").split(b"\n")[:-1]]
    assert [(item["custom_id"], item["body"]) for item in lines] == [
        (entry.custom_id, json.loads(entry.request)) for entry in entries
    ]
    assert {(item["method"], item["url"]) for item in lines} == {("POST", RESPONSES)}


@pytest.mark.parametrize("endpoint", OpenAIFacts.endpoints)
async def test_frame_bytes_is_enough_for_every_endpoint(  # noqa: PLR0917 - pytest passes them by name
    openai: OpenAI, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any, endpoint: str
) -> None:
    fake.then({"id": "file-1"})
    await openai.upload(submission(endpoint=endpoint), start_pages(*entries))
    body = fake.requests[0].content
    data = body[body.index(b'{"custom_id"') : body.rindex(b"}\n") + 2]
    assert len(data) <= submission().request_bytes + len(entries) * OpenAIFacts.frame_bytes


async def test_rows_that_changed_since_they_were_counted_are_not_sent(
    openai: OpenAI, fake: Any, entries: list[EntryLine], submission: Any, start_pages: Any
) -> None:
    with pytest.raises(PermanentProviderError, match="bytes"):
        await openai.upload(submission(), start_pages(*entries[:-1]))


async def test_the_batch_carries_our_tag(openai: OpenAI, fake: Any, submission: Any, start_pages: Any) -> None:
    fake.then(batch(status="validating"))
    report = await openai.create(submission(file_id="file-1"), start_pages())
    assert (report.provider_batch_id, report.status) == ("batch_1", BatchStatus.SUBMITTED)
    assert json.loads(fake.requests[0].content) == {
        "input_file_id": "file-1",
        "endpoint": RESPONSES,
        "completion_window": "24h",
        "metadata": {
            "overnight_batch": "00000000-0000-0000-0000-000000000007",
            "overnight_submission": "ab12cd34",
        },
    }


# Finding


def listed(*batches: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(batches), "has_more": more}


async def test_nothing_is_looked_for_before_anything_can_have_been_sent(
    openai: OpenAI, fake: Any, submission: Any
) -> None:
    assert await openai.find(submission(started_at=None)) is None
    assert fake.asked == []


async def test_our_batch_is_found_by_its_tag_on_a_later_page(openai: OpenAI, fake: Any, submission: Any) -> None:
    ours = batch(id="batch_ours", metadata={"overnight_submission": "ab12cd34"})
    theirs = [batch(id="a", metadata=None), batch(id="b", metadata={"overnight_submission": "zzzzzzzz"})]
    fake.then(listed(*theirs, more=True), listed(ours, more=True))
    report = await openai.find(submission())
    assert report is not None
    assert report.provider_batch_id == "batch_ours"
    assert fake.asked == ["GET /v1/batches?limit=100", "GET /v1/batches?limit=100&after=b"]


async def test_our_batch_is_found_by_its_file_where_a_server_keeps_no_tags(
    openai: OpenAI, fake: Any, submission: Any
) -> None:
    fake.then(listed(batch(id="a", metadata=None, input_file_id="file-1")))
    report = await openai.find(submission(file_id="file-1"))
    assert report is not None


async def test_another_submission_of_the_same_file_is_not_ours(openai: OpenAI, fake: Any, submission: Any) -> None:
    fake.then(listed(batch(metadata={"overnight_submission": "zzzzzzzz"}, input_file_id="file-1")))
    assert await openai.find(submission(file_id="file-1")) is None


async def test_the_search_ends_at_batches_older_than_the_intent(openai: OpenAI, fake: Any, submission: Any) -> None:
    started = submission().started_at
    young = batch(id="a", created_at=int((started - timedelta(minutes=9)).timestamp()))
    old = batch(created_at=int((started - timedelta(minutes=11)).timestamp()))
    late = batch(id="c", metadata={"overnight_submission": "ab12cd34"})
    fake.then(listed(young, old, late, more=True))
    assert await openai.find(submission()) is None
    assert len(fake.asked) == 1


async def test_a_clock_that_is_behind_ours_does_not_hide_our_batch(openai: OpenAI, fake: Any, submission: Any) -> None:
    behind = int((submission().started_at - timedelta(minutes=9)).timestamp())
    fake.then(listed(batch(created_at=behind, metadata={"overnight_submission": "ab12cd34"})))
    assert await openai.find(submission()) is not None


async def test_a_list_that_turns_in_circles_ends(openai: OpenAI, fake: Any, submission: Any) -> None:
    page = listed(batch(id="a", created_at="?"), more=True)
    fake.then(page, page, page)
    assert await openai.find(submission()) is None
    assert len(fake.asked) == 2


async def test_a_batch_that_another_batch_owns_is_no_candidate(openai: OpenAI, fake: Any, submission: Any) -> None:
    fake.then(listed(batch(metadata={"overnight_submission": "ab12cd34"})))
    assert await openai.find(submission(), claimed={"batch_1"}) is None


# Looking and canceling


@pytest.mark.parametrize(("word", "status"), list(STATUSES.items()))
def test_every_status_word_has_its_meaning_in_any_case(word: str, status: BatchStatus) -> None:
    assert status_of(word) is status_of(word.upper()) is status


@given(st.text())
def test_an_unknown_status_is_never_terminal(word: str) -> None:
    assert word.lower() in STATUSES or status_of(word) is BatchStatus.IN_PROGRESS


def test_an_unknown_status_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    status_of("dreaming")
    assert "dreaming" in caplog.text


async def test_a_report_carries_counts_and_files(openai: OpenAI, fake: Any) -> None:
    counts = {"total": 10, "completed": 7, "failed": 2}
    fake.then(
        batch(
            status="completed",
            request_counts=counts,
            output_file_id="f-o",
            error_file_id=None,
            completed_at=1795270000,
            cancelled_at=None,
        )
    )
    report = await openai.fetch("batch/1")
    assert fake.asked == ["GET /v1/batches/batch%2F1"]
    assert report.progress == Progress(total=10, done=9, failed=2)
    assert report.details == {"output_file_id": "f-o"}


async def test_a_batch_that_failed_its_checks_says_where(openai: OpenAI, fake: Any) -> None:
    data = [{"code": "invalid_json_line", "message": f"bad\0 {n}", "line": n} for n in range(1, 6)]
    fake.then(batch(status="failed", errors={"object": "list", "data": data}))
    report = await openai.fetch("batch_1")
    assert report.failure_code == "invalid_json_line"
    assert report.failure_reason == "line 1: bad 1; line 2: bad 2; line 3: bad 3 (and 2 more)"


async def test_a_report_survives_odd_fields(openai: OpenAI, fake: Any) -> None:
    fake.then(batch(request_counts=[1], errors={"data": ["x", {"code": 7}]}, output_file_id=7))
    report = await openai.fetch("batch_1")
    assert (report.progress, report.details, report.line_count) == (Progress(), {}, 0)


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize("word", ["completed", "cancelled", "cancelling"])
async def test_a_cancel_that_comes_too_late_reports_what_is(openai: OpenAI, fake: Any, status: int, word: str) -> None:
    fake.then(httpx.Response(status, json={"error": {"message": "too late"}}), batch(status=word))
    assert (await openai.cancel("batch_1")).status_word == word
    assert fake.asked == ["POST /v1/batches/batch_1/cancel", "GET /v1/batches/batch_1"]


async def test_a_cancel_that_is_refused_for_another_reason_is_an_error(openai: OpenAI, fake: Any) -> None:
    fake.then(httpx.Response(400, json={"error": {"message": "no"}}), batch())
    with pytest.raises(PermanentProviderError, match="no"):
        await openai.cancel("batch_1")


# Results


def report(
    status: BatchStatus = BatchStatus.ENDED, *, completed: int = 0, failed: int = 0, **files: str
) -> ProviderReport:
    return ProviderReport(
        provider_batch_id="batch_1",
        status=status,
        status_word="completed",
        progress=Progress(total=completed + failed, done=completed + failed, failed=failed),
        details={f"{name}_file_id": value for name, value in files.items()},
    )


async def read(
    openai: OpenAI, of: ProviderReport, position: ResultPosition, *, as_is: bool = False
) -> list[tuple[bytes, str]]:
    blocks = openai.results(of, position, as_is=as_is)
    return [(raw, block.position.source) async for block in blocks for raw in block.lines]


async def test_both_files_are_read_output_first(openai: OpenAI, fake: Any) -> None:
    fake.then(httpx.Response(200, content=b"1\n2\n"), httpx.Response(200, content=b"3"))
    both = report(completed=2, failed=1, output="f-o", error="f-e")
    assert await read(openai, both, ResultPosition()) == [(b"1", "output"), (b"2", "output"), (b"3", "error")]
    assert fake.asked == ["GET /v1/files/f-o/content", "GET /v1/files/f-e/content"]
    assert fake.requests[0].headers["accept-encoding"] == "identity"


async def test_reading_resumes_inside_the_right_file(openai: OpenAI, fake: Any) -> None:
    both = report(completed=2, failed=1, output="f-o", error="f-e")
    fake.then(httpx.Response(200, content=b"1\n2\n"), httpx.Response(200, content=b"3"))
    rest = await read(openai, both, ResultPosition(source="output", offset=2))
    assert rest == [(b"2", "output"), (b"3", "error")]
    fake.then(httpx.Response(200, content=b"3\n4\n"))
    assert await read(openai, both, ResultPosition(source="error", offset=2)) == [(b"4", "error")]


@pytest.mark.parametrize("status", [BatchStatus.CANCELED, BatchStatus.EXPIRED, BatchStatus.FAILED])
async def test_whatever_files_an_unfinished_batch_owns_are_read(openai: OpenAI, fake: Any, status: BatchStatus) -> None:
    assert await read(openai, report(status), ResultPosition()) == []
    fake.then(httpx.Response(200, content=b"1\n"))
    assert await read(openai, report(status, failed=5, error="f"), ResultPosition()) == [(b"1", "error")]


@pytest.mark.parametrize("status", [BatchStatus.ENDED, BatchStatus.CANCELED, BatchStatus.EXPIRED])
@pytest.mark.parametrize("early", [{"completed": 1}, {"failed": 1}, {"completed": 1, "failed": 1, "error": "f"}])
async def test_a_batch_whose_files_are_late_is_asked_again_until_what_there_is_has_to_do(
    openai: OpenAI, fake: Any, early: dict[str, Any], status: BatchStatus
) -> None:
    # Going by the worker's clock, the batch ended long ago.
    late = replace(report(status, **early), details=report(status, **early).details | {"over_at": 1_000_000_000})
    with pytest.raises(IncompleteResultsError, match="not there yet"):
        await read(openai, late, ResultPosition())
    fake.then(httpx.Response(200, content=b""))
    assert await read(openai, late, ResultPosition(), as_is=True) == []


@pytest.mark.parametrize(("word", "lines"), [("completed", 9), ("cancelled", 7), ("expired", 7), ("failed", 7)])
async def test_the_counts_promise_lines_and_those_of_what_completed_come_first(
    openai: OpenAI, fake: Any, word: str, lines: int
) -> None:
    fake.then(batch(status=word, request_counts={"total": 10, "completed": 7, "failed": 2}))
    report = await openai.fetch("batch_1")
    assert (report.line_count, report.lines_before) == (lines, {"error": 7})


async def test_a_completed_batch_without_counts_and_files_is_asked_again_and_a_canceled_one_is_empty(
    openai: OpenAI,
) -> None:
    with pytest.raises(IncompleteResultsError, match="fetch the batch again"):
        await read(openai, report(), ResultPosition())
    assert await read(openai, report(BatchStatus.CANCELED), ResultPosition()) == []


# Lines


def test_an_answer_is_a_success_with_its_usage() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {
            "cached_tokens": 40,
            "cache_write_tokens": 30,
            "cache_write_tokens_details": {"ttl_30m_tokens": 10, "ttl_12h_tokens": 20},
        },
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 45},
    }
    result = parse(ok({"status": "completed", "output": [], "usage": usage}))
    assert (result.custom_id, result.outcome) == ("e-1", Outcome.SUCCEEDED)
    assert result.usage == Usage(
        input_tokens=100,
        cache_read_tokens=40,
        cache_write_tokens=30,
        cache_write_1h_tokens=20,
        output_tokens=50,
        reasoning_tokens=45,
    )


def test_chat_and_embeddings_write_their_usage_in_other_words() -> None:
    chat = {
        "prompt_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert parse(ok({"choices": [], "usage": chat})).usage == Usage(
        input_tokens=9, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2
    )
    assert parse(ok({"usage": {"prompt_tokens": 3, "total_tokens": 3}})).usage == Usage(input_tokens=3)


@pytest.mark.parametrize("odd", [-1, 10**30, "5", True, None, [], 1.5, {}])
def test_a_count_that_is_none_counts_nothing(odd: Any) -> None:
    result = parse(ok({"usage": {"prompt_tokens": odd, "prompt_tokens_details": odd, "completion_tokens": 2.0}}))
    assert result.usage == Usage(output_tokens=2)


ERRORED = [
    # what came, code, reason
    (ok({"error": {"message": "m", "type": "t", "code": "c"}}, 400), "c", "m"),
    (ok({"error": {"message": "m", "type": "t", "code": None}}, 400), "t", "m"),
    (ok({"error": {"message": "m", "code": 429}}, 429), "429", "m"),
    (ok({"error": "plain"}, 500), "http_500", "plain"),
    (ok(None, 500), "http_500", "The provider answered this entry with HTTP 500."),
    (ok({"choices": []}, 0), "http_0", "The provider answered this entry with HTTP 0."),
    (ok({"choices": []}, None), "http_0", "The provider answered this entry with HTTP 0."),
    (ok({"choices": []}, "200"), "http_200", "The provider answered this entry with HTTP 200."),
    (ok(None), "no_body", "The result has no response body."),
    (ok({}), "no_body", "The result has no response body."),
    (ok({"status": "failed", "error": {"code": "server_error", "message": "m"}}), "server_error", "m"),
    (ok({"status": "cancelled"}), "response_cancelled", None),
    (line(error={"code": "other", "message": "m"}), "other", "m"),
    (line(error="plain"), "error", "plain"),
    (line(error={"error": {"code": 400, "type": "BadRequestError", "message": "m"}}), "400", "m"),
    (line(response=None), "http_0", "The provider answered this entry with HTTP 0."),
    (line(response="?"), "http_0", "The provider answered this entry with HTTP 0."),
    (line(error={"code": ["?"], "message": {"a": 1}}), "error", None),
]


@pytest.mark.parametrize(("raw", "code", "reason"), ERRORED)
def test_each_kind_of_failure_keeps_its_code_and_reason(raw: bytes, code: str, reason: str | None) -> None:
    result = parse(raw)
    assert (result.outcome, result.error_code, result.reason) == (Outcome.ERRORED, code, reason)


def test_entries_that_were_never_run_say_so() -> None:
    assert parse(line(error={"code": "batch_expired", "message": "m"})).outcome is Outcome.EXPIRED
    assert parse(line(error={"code": "batch_cancelled", "message": "m"})).outcome is Outcome.CANCELED


def test_usage_of_a_failed_answer_is_kept_because_it_is_billed() -> None:
    body = {"status": "failed", "usage": {"input_tokens": 5, "output_tokens": 6}}
    assert parse(ok(body)).usage == Usage(input_tokens=5, output_tokens=6)


def test_reasons_can_be_stored_whatever_the_provider_wrote() -> None:
    result = parse(ok({"error": {"message": "a\0b" + "x" * 10_000, "code": "c\0" * 200}}, 400))
    assert result.reason is not None
    assert result.error_code is not None
    assert "\0" not in result.reason + result.error_code
    assert (len(result.reason), len(result.error_code)) <= (2000, 100)


@pytest.mark.parametrize(
    "odd",
    [
        b'{"custom_id":"e-1","a":NaN}',
        b'{"custom_id":"e-1","a":-Infinity}',
        b'{"custom_id":"e-1","a":"\\ud800"}',
        b'{"custom_id":"e-1","a":"\xff"}',
        b'{"custom_id":"e-1","a":"\xed\xa0\x80"}',
        b'{"custom_id":"e-1","a":' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_a_line_that_only_a_lenient_reader_takes_is_that_entrys_error(odd: bytes) -> None:
    result = parse(odd)
    assert (result.custom_id, result.outcome, result.error_code) == ("e-1", Outcome.ERRORED, "unreadable_line")
    assert result.reason is not None
    result.reason.encode()


def test_the_last_of_duplicate_keys_counts_and_a_nul_in_an_answer_does_no_harm() -> None:
    raw = b'{"custom_id":"e-0","custom_id":"e-1","response":{"status_code":200,"body":{"choices":[{"a":"\\u0000"}]}}}'
    assert (parse(raw).custom_id, parse(raw).outcome) == ("e-1", Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"custom_id":7}',
        b'{"custom_id":""}',
        b'{"custom_id":"a b"}',
        b'{"custom_id":"a\\u0000"}',
        b'{"custom_id":"\\ud800"}',
        b'{"custom_id":"e-1"',
        b"[" * 100_000,
        b'{"custom_id":"e-1","a":' + b"9" * 5000 + b"}",
        b'{"custom_id":"' + b"a" * 65 + b'"}',
        b"\xff\xfe",
        b"NaN",
    ],
)
def test_a_line_that_names_no_entry_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedLineError):
        parse(raw)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.lists(st.sampled_from(["\ud800", "\0", "\u2028", "a", "ż", "🦉"])).map("".join)
    | st.sampled_from([200, 400, "failed", "batch_expired", "message", "function_call", "refusal", "length"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "response",
                    "error",
                    "body",
                    "status_code",
                    "code",
                    "message",
                    "status",
                    "usage",
                    "input_tokens",
                    "prompt_tokens",
                    "input_tokens_details",
                    "choices",
                    "output",
                    "content",
                    "type",
                    "text",
                    "data",
                    "embedding",
                    "tool_calls",
                    "function",
                    "finish_reason",
                    "incomplete_details",
                    "arguments",
                    "index",
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


@given(json_values, json_values)
def test_any_line_with_a_custom_id_has_one_outcome(response: Any, error: Any) -> None:
    result = parse(line(response=response, error=error))
    assert result.custom_id == "e-1"
    for text in (result.error_code, result.reason):
        assert text is None or ("\0" not in text and text.encode())


@given(json_values, st.sampled_from(OpenAIFacts.endpoints))
def test_any_answer_can_be_read_or_is_refused_by_name(body: Any, endpoint: str) -> None:
    with suppress(ResponseError):
        facts.read_response(ok(body), endpoint=endpoint)


# Answers


def test_a_response_is_its_output_text_without_the_reasoning() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{broken"},
    ]
    answer = facts.read_response(ok({"status": "completed", "output": output}), endpoint=RESPONSES)
    assert (answer.text, answer.refusal, answer.truncated, answer.finish_reason) == ("ab", None, False, "completed")
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("c1", "f", {"x": 1}),
        ("c2", "g", "{broken"),
    ]


def test_a_response_that_was_refused_or_cut_says_so() -> None:
    part = {"type": "refusal", "refusal": "I will not."}
    refused = {"status": "completed", "output": [{"type": "message", "content": [part]}]}
    assert facts.read_response(ok(refused), endpoint=RESPONSES).refusal == "I will not."
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    answer = facts.read_response(ok(cut), endpoint=RESPONSES)
    assert (answer.truncated, answer.finish_reason) == (True, "max_output_tokens")
    filtered = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}
    answer = facts.read_response(ok(filtered), endpoint=RESPONSES)
    assert (answer.truncated, answer.refusal is not None) == (False, True)


def test_a_chat_answer_is_its_first_message() -> None:
    def chat(message: dict[str, Any], finish: str = "stop") -> Any:
        body = {"choices": [{"message": message, "finish_reason": finish}]}
        return facts.read_response(ok(body), endpoint=CHAT)

    assert chat({"content": "hi"}).text == "hi"
    assert chat({"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}).text == "hi"
    assert chat({"content": None, "refusal": "no"}).refusal == "no"
    assert chat({"content": "cut"}, "length").truncated
    assert chat({"content": None}, "content_filter").refusal
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert chat({"content": None, "tool_calls": [call]}, "tool_calls").tool_calls[0].arguments == {}


def test_an_embedding_is_a_vector_in_either_encoding() -> None:
    plain = {"data": [{"index": 1, "embedding": [9]}, {"index": 0, "embedding": [0.5, -1]}]}
    assert facts.read_response(ok(plain), endpoint=EMBEDDINGS).embedding == [0.5, -1.0]
    packed = {"data": [{"embedding": "AAAAPwAAgL8="}]}
    assert facts.read_response(ok(packed), endpoint=EMBEDDINGS).embedding == [0.5, -1.0]


# Requests

PROMPT = Prompt(
    messages=[Message(role="user", content="Hi"), Message(role="assistant", content="Yes?")],
    system="Be brief.",
    output_schema={"type": "object", "properties": {"a": {"type": "string"}}},
    output_name="My output!",
    max_tokens=99,
    temperature=0,
    reasoning_effort="low",
)
STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_a_prompt_becomes_a_responses_request() -> None:
    assert facts.render(PROMPT, model="gpt-x", endpoint=RESPONSES) == {
        "model": "gpt-x",
        "input": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}],
        "instructions": "Be brief.",
        "max_output_tokens": 99,
        "temperature": 0,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "My_output_", "strict": True, "schema": STRICT}},
    }


def test_a_prompt_becomes_a_chat_request() -> None:
    assert facts.render(PROMPT, model="gpt-x", endpoint=CHAT) == {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
        ],
        "max_completion_tokens": 99,
        "temperature": 0,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "My_output_", "strict": True, "schema": STRICT},
        },
    }


def test_what_is_not_asked_for_is_left_out() -> None:
    prompt = Prompt(messages=[Message(role="user", content="Hi")])
    assert facts.render(prompt, model="m", endpoint=RESPONSES) == {
        "model": "m",
        "input": [{"role": "user", "content": "Hi"}],
    }
    assert facts.render(prompt, model="m", endpoint=EMBEDDINGS) == {"model": "m", "input": "Hi"}


HI = [Message(role="user", content="Hi")]


@pytest.mark.parametrize(
    ("prompt", "endpoint", "field"),
    [
        (Prompt(messages=[]), RESPONSES, "messages"),
        (Prompt(messages=[Message(role="user", content="\ud800")]), RESPONSES, r"messages\[0\].content"),
        (Prompt(messages=HI, system="\ud800"), CHAT, "system"),
        (Prompt(messages=HI, max_tokens=0), CHAT, "max_tokens"),
        (Prompt(messages=HI, temperature=2.1), CHAT, "temperature"),
        (Prompt(messages=HI, temperature=float("nan")), CHAT, "temperature"),
        (Prompt(messages=HI, output_schema={"type": "array", "items": {"type": "string"}}), CHAT, "output_schema"),
        (Prompt(messages=HI * 2), EMBEDDINGS, "messages"),
        (Prompt(messages=HI, system="s"), EMBEDDINGS, "messages"),
        (Prompt(messages=HI, temperature=1), EMBEDDINGS, "temperature"),
        (Prompt(messages=[Message(role="user", content="")]), EMBEDDINGS, "messages"),
    ],
)
def test_a_prompt_that_cannot_be_taken_names_the_field(prompt: Prompt, endpoint: str, field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}"):
        facts.render(prompt, model="m", endpoint=endpoint)


@pytest.mark.parametrize(
    ("request_body", "endpoint", "field"),
    [
        ({"input": "x"}, RESPONSES, "model"),
        ({"model": "other", "input": "x"}, RESPONSES, "model"),
        ({"model": "m"}, RESPONSES, "input"),
        ({"model": "m", "input": "x", "stream": True}, RESPONSES, "stream"),
        ({"model": "m", "input": "x", "background": True}, RESPONSES, "background"),
        ({"model": "m", "messages": []}, CHAT, "messages"),
        ({"model": "m", "input": ""}, EMBEDDINGS, "input"),
    ],
)
def test_a_ready_made_body_that_cannot_be_taken_names_the_field(request_body: Any, endpoint: str, field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}"):
        facts.check(request_body, model="m", endpoint=endpoint)


def test_a_ready_made_body_that_can_be_taken_passes() -> None:
    facts.check({"model": "m", "input": "x", "stream": False}, model="m", endpoint=RESPONSES)
    facts.check({"model": "m", "prompt": {"id": "pmpt_1"}}, model="m", endpoint=RESPONSES)
    facts.check({"model": "m", "messages": [{}]}, model="m", endpoint=CHAT)


@pytest.mark.parametrize(
    ("model", "request_body", "tools"),
    [
        ("gpt-5.4-mini", {}, []),
        ("gpt-5.4-mini", {"web_search_options": None}, []),
        ("gpt-5.4-mini", {"web_search_options": {}}, ["web_search_options"]),
        ("gpt-4o-search-preview", {}, ["web_search_options"]),
        ("o3-deep-research", {}, []),
        ("ft:gpt-4o:acme:search:id", {}, []),
    ],
)
def test_searches_of_chat_completions_are_told_by_the_request_alone(
    model: str, request_body: dict[str, Any], tools: list[str]
) -> None:
    assert untold_by(facts, request_body, model=model, endpoint="/v1/chat/completions") == tools
    assert untold_by(facts, request_body, model=model, endpoint="/v1/responses") == []


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("gpt-6-luna", True),
        ("text-embedding-3-small", True),
        ("ft:gpt-4o-mini:acme:image-labels:id", True),
        ("gpt-4o-realtime-preview", False),
        ("gpt-4o-mini-tts", False),
        ("gpt-image-1", False),
        ("whisper-1", False),
    ],
)
def test_only_models_that_surely_have_no_batches_are_refused(model: str, answer: bool) -> None:  # noqa: FBT001 - a table
    assert facts.supports_batch(model) is answer


def test_lines_end_with_the_request_as_it_was_stored(entries: list[EntryLine]) -> None:
    from overnight.providers._openai_facts import framed

    for entry, raw in zip(entries, framed(entries, CHAT).split(b"\n"), strict=False):
        assert raw.endswith(f'"body":{entry.request}}}'.encode())
