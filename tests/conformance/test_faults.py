"""Every scripted fault does what it says, on the wire."""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from overnight.simulator import BatchEffect, DropEffect, Fault, HtmlEffect, LineEffect, Match, StatusEffect, read_faults
from tests.conformance.bench import CLOSED_SCHEMA, Bench, Simulate, anthropic_entry, openai_entry

ENTRIES = [f"e-{n}" for n in range(10)]


def openai_entries() -> list[dict[str, Any]]:
    return [openai_entry(name) for name in ENTRIES]


def anthropic_entries() -> list[dict[str, Any]]:
    return [anthropic_entry(name) for name in ENTRIES]


def test_a_status_is_answered_before_any_work_in_the_providers_form(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 500}, operation="batches.create", times=2)
    with pytest.raises(openai.InternalServerError):
        bench.openai_batch(openai_entries())
    with pytest.raises(anthropic.InternalServerError) as refused:
        bench.anthropic_batch(anthropic_entries())
    body: Any = refused.value.body
    assert body["error"]["type"] == "api_error"
    assert (bench.batches_at("openai"), bench.batches_at("anthropic")) == (0, 0)
    bench.openai_batch(openai_entries())


@pytest.mark.parametrize("retry_after", [None, 7, "Sun, 22 Nov 2026 00:00:00 GMT"])
def test_a_429_carries_retry_after_only_when_scripted(bench: Bench, retry_after: Any) -> None:
    bench.fault({"kind": "status", "status": 429, "retry_after": retry_after, "headers": {"x-should-retry": "true"}})
    with pytest.raises(openai.RateLimitError) as refused:
        bench.openai.batches.list()
    wanted = None if retry_after is None else str(retry_after)
    assert refused.value.response.headers.get("retry-after") == wanted
    assert refused.value.response.headers["x-should-retry"] == "true"


def test_a_body_of_ones_own_is_sent_as_it_is(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 429, "body": {"error": {"code": "insufficient_quota"}}}, times=1)
    bench.fault({"kind": "status", "status": 503, "body": "upstream is gone"}, times=1)
    assert bench.http.get("/v1/batches").json() == {"error": {"code": "insufficient_quota"}}
    assert bench.http.get("/v1/batches").text == "upstream is gone"


def test_a_page_of_html_comes_where_json_was_promised(bench: Bench) -> None:
    bench.fault({"kind": "html", "status": 200, "body": "<html>login</html>"}, operation="batches.retrieve")
    answer = bench.http.get("/v1/batches/batch_1")
    assert (answer.status_code, answer.text) == (200, "<html>login</html>")
    assert answer.headers["content-type"].startswith("text/html")


def test_a_lost_answer_leaves_the_batch_behind(bench: Bench) -> None:
    bench.fault({"kind": "answer_lost"}, operation="batches.create", times=1)
    with pytest.raises(openai.APIConnectionError):
        bench.openai_batch(openai_entries())
    assert bench.batches_at("openai") == 1
    bench.fault({"kind": "answer_lost"}, provider="anthropic", operation="create", times=1)
    with pytest.raises(anthropic.APIConnectionError):
        bench.anthropic_batch(anthropic_entries())
    assert bench.batches_at("anthropic") == 1


def test_a_dropped_call_leaves_nothing_behind(bench: Bench) -> None:
    bench.fault({"kind": "dropped"}, operation="batches.create", times=1)
    with pytest.raises(openai.APIConnectionError):
        bench.openai_batch(openai_entries())
    assert bench.batches_at("openai") == 0


def test_a_status_after_accept_leaves_the_batch_behind(bench: Bench) -> None:
    bench.fault({"kind": "status_after_accept", "status": 502}, operation="batches.create")
    with pytest.raises(openai.InternalServerError):
        bench.openai_batch(openai_entries())
    assert bench.batches_at("openai") == 1


def test_an_upload_whose_answer_is_lost_leaves_the_file_behind(bench: Bench) -> None:
    bench.fault({"kind": "answer_lost"}, operation="files.upload", times=1)
    with pytest.raises(openai.APIConnectionError):
        bench.upload(b"{}\n")
    assert len(bench.control("GET", "state")["files"]) == 1


@pytest.mark.parametrize("operation", ["files.content", "batches.results"])
def test_a_cut_ends_the_body_after_so_many_bytes(bench: Bench, operation: str) -> None:
    bench.fault({"kind": "cut", "after_bytes": 700}, operation=operation, times=1)
    if operation == "files.content":
        path = f"/v1/files/{bench.openai_ended(openai_entries()).output_file_id}/content"
    else:
        path = f"/v1/messages/batches/{bench.anthropic_ended(anthropic_entries()).id}/results"
    got: list[bytes] = []
    with bench.http.stream("GET", path) as answer, pytest.raises(httpx.RemoteProtocolError):
        got.extend(answer.iter_bytes())
    whole = bench.http.get(path).content
    assert b"".join(got) == whole[:700] != whole


@pytest.mark.parametrize("behind_it", [200, 416])
@pytest.mark.parametrize("operation", ["files.content", "batches.results"])
def test_a_short_file_ends_cleanly_where_it_is_said_to(simulate: Simulate, operation: str, behind_it: int) -> None:
    bench = simulate(ranges=behind_it == 416)
    for call, half_line in enumerate((False, True)):
        effect = {"kind": "short", "lines": 3, "half_line": half_line}
        bench.fault(effect, operation=operation, skip=2 * call, times=2)
    if operation == "files.content":
        path = f"/v1/files/{bench.openai_ended(openai_entries()).output_file_id}/content"
    else:
        path = f"/v1/messages/batches/{bench.anthropic_ended(anthropic_entries()).id}/results"
    behind = {"range": "bytes=1000000-"}
    answers = [bench.http.get(path, headers=headers) for headers in ({}, behind) * 2]
    whole = bench.http.get(path).content
    assert [answer.status_code for answer in answers] == [200, behind_it] * 2
    lines = whole.splitlines(keepends=True)
    three, half = b"".join(lines[:3]), len(lines[3]) // 2
    assert (answers[0].content, answers[2].content) == (three, three + lines[3][:half])
    assert [answer.headers["content-length"] for answer in answers[::2]] == [str(len(three)), str(len(three) + half)]


def test_a_delay_comes_before_the_answer_and_lets_other_faults_through(bench: Bench) -> None:
    bench.fault({"kind": "delay", "seconds": 0.3}, operation="batches.list")
    bench.fault({"kind": "status", "status": 503}, operation="batches.list", times=1)
    with pytest.raises(httpx.ReadTimeout):
        bench.http.get("/v1/batches", timeout=0.05)
    assert bench.http.get("/v1/batches").status_code in {200, 503}


def test_a_lagging_list_hides_what_is_young(bench: Bench) -> None:
    bench.fault({"kind": "list_lag", "seconds": 60})
    batch, message_batch = bench.openai_batch(openai_entries()), bench.anthropic_batch(anthropic_entries())
    assert list(bench.openai.batches.list()) == []
    assert list(bench.openai.files.list()) == []
    assert list(bench.anthropic.messages.batches.list()) == []
    assert bench.openai.batches.retrieve(batch.id).id == batch.id
    bench.advance(60)
    assert [b.id for b in bench.openai.batches.list()] == [batch.id]
    assert [b.id for b in bench.anthropic.messages.batches.list()] == [message_batch.id]


def statuses(bench: Bench, calls: int) -> list[int]:
    return [bench.http.get("/v1/batches").status_code for _ in range(calls)]


def test_skip_and_times_choose_the_calls_that_meet_a_fault(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 500}, provider="openai", operation="batches.*", skip=1, times=2)
    assert bench.http.get("/v1/messages/batches").status_code == 200
    assert statuses(bench, 5) == [200, 500, 500, 200, 200]


def test_a_fault_can_end_by_the_clock(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 429}, for_seconds=3600)
    assert statuses(bench, 3) == [429, 429, 429]
    bench.advance(3601)
    assert statuses(bench, 2) == [200, 200]


def test_a_fault_by_chance_falls_the_same_way_for_the_same_seed(simulate: Simulate) -> None:
    fault = Fault(match=Match(probability=0.5), effect=StatusEffect(kind="status"))
    falls = [statuses(simulate(seed=seed, faults=(fault,)), 30) for seed in (1, 1, 2)]
    assert falls[0] == falls[1] != falls[2]
    assert set(falls[0]) == {200, 500}


def test_faults_are_listed_with_their_history_and_deleted(bench: Bench) -> None:
    bench.fault({"kind": "status", "status": 500}, times=1)
    bench.fault({"kind": "html"}, times=1)
    statuses(bench, 1)
    first, second = bench.control("GET", "faults")["faults"]
    assert (first["seen"], first["met"], second["met"]) == (1, 1, 0)
    bench.control("DELETE", f"faults/{second['id']}")
    assert statuses(bench, 1) == [200]
    assert bench.control("DELETE", "faults") == {"deleted": 1}


@pytest.mark.parametrize("body", [{"effect": {"kind": "sorcery"}}, {"effect": {"kind": "cut", "after": 3}}, {}])
def test_a_fault_that_makes_no_sense_is_refused(bench: Bench, body: Any) -> None:
    assert bench.http.post("/_simulator/faults", json=body).status_code == 422
    with pytest.raises(ValueError, match="effect"):
        read_faults(json.dumps([body]))


def test_a_script_says_the_same_as_python() -> None:
    script = json.dumps(
        [
            {"match": {"operation": "batches.create", "times": 1}, "effect": {"kind": "answer_lost"}},
            {"effect": {"kind": "batch", "how": "expire", "share": 0.25}},
            {"effect": {"kind": "lines", "how": "missing", "count": None, "custom_ids": ["a-*"]}},
            {"effect": {"kind": "html"}},
        ]
    )
    assert read_faults(script) == (
        Fault(match=Match(operation="batches.create", times=1), effect=DropEffect(kind="answer_lost")),
        Fault(effect=BatchEffect(how="expire", share=0.25)),
        Fault(effect=LineEffect(how="missing", count=None, custom_ids=("a-*",))),
        Fault(effect=HtmlEffect()),
    )


def batch_fault(bench: Bench, how: str, **more: Any) -> None:
    bench.fault({"kind": "batch", "how": how, **more})


def test_a_batch_fails_as_a_whole_with_the_scripted_code(bench: Bench) -> None:
    batch_fault(bench, "fail", code="billing_hard_limit_reached", message="No money.")
    batch = bench.openai_ended(openai_entries())
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(e.code, e.message) for e in batch.errors.data] == [("billing_hard_limit_reached", "No money.")]


def test_an_unknown_status_word_stands_in_for_in_progress(bench: Bench) -> None:
    batch_fault(bench, "status_word", word="scheduling")
    batch = bench.openai_batch(openai_entries())
    message_batch = bench.anthropic_batch(anthropic_entries())
    bench.advance(50)
    assert bench.http.get(f"/v1/batches/{batch.id}").json()["status"] == "scheduling"
    path = f"/v1/messages/batches/{message_batch.id}"
    assert bench.http.get(path).json()["processing_status"] == "scheduling"
    bench.advance(100)
    assert bench.openai.batches.retrieve(batch.id).status == "completed"
    assert bench.http.get(path).json()["processing_status"] == "ended"


def test_a_batch_expires_with_the_scripted_share_done(bench: Bench) -> None:
    batch_fault(bench, "expire", share=0.3)
    batch = bench.openai_ended(openai_entries())
    assert batch.status == "expired"
    lines = bench.openai_lines(batch).values()
    assert [line["response"] is None for line in lines].count(True) == 7
    message_batch = bench.anthropic_ended(anthropic_entries())
    assert (message_batch.request_counts.succeeded, message_batch.request_counts.expired) == (3, 7)


def test_a_cancel_finds_the_scripted_share_done(bench: Bench) -> None:
    batch_fault(bench, "cancel", share=0.5)
    batch, message_batch = bench.openai_batch(openai_entries()), bench.anthropic_batch(anthropic_entries())
    bench.openai.batches.cancel(batch.id)
    bench.anthropic.messages.batches.cancel(message_batch.id)
    bench.advance(10)
    batch = bench.openai.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("cancelled", 5)
    counts = bench.anthropic.messages.batches.retrieve(message_batch.id).request_counts
    assert (counts.succeeded, counts.canceled) == (5, 5)


def test_a_batch_is_canceled_by_somebody_else(bench: Bench) -> None:
    batch_fault(bench, "cancel_by_itself", share=0.5)
    batch = bench.openai_batch(openai_entries())
    bench.advance(65)
    assert bench.openai.batches.retrieve(batch.id).status == "cancelling"
    bench.advance(10)
    assert bench.openai.batches.retrieve(batch.id).status == "cancelled"


def test_an_archived_batch_has_no_results(bench: Bench) -> None:
    batch_fault(bench, "archive")
    message_batch = bench.anthropic_ended(anthropic_entries())
    assert message_batch.archived_at is not None
    assert message_batch.results_url is None
    assert bench.http.get(f"/v1/messages/batches/{message_batch.id}/results").status_code == 404
    batch = bench.openai_ended(openai_entries())
    assert batch.output_file_id is not None
    with pytest.raises(openai.NotFoundError):
        bench.openai.files.content(batch.output_file_id)


def test_a_completed_batch_names_its_files_late(bench: Bench) -> None:
    batch_fault(bench, "late_files", seconds=5)
    batch = bench.openai_ended(openai_entries())
    assert (batch.status, batch.output_file_id) == ("completed", None)
    bench.advance(5)
    assert bench.openai.batches.retrieve(batch.id).output_file_id is not None


def test_batch_faults_count_accepted_creates_only(bench: Bench) -> None:
    bench.fault({"kind": "batch", "how": "fail"}, times=1)
    with pytest.raises(openai.NotFoundError):
        bench.openai.batches.create(input_file_id="file-none", endpoint="/v1/responses", completion_window="24h")
    assert bench.openai_ended(openai_entries()).status == "failed"
    assert bench.openai_ended(openai_entries()).status == "completed"


def raw_lines(bench: Bench, provider: str, entries: list[dict[str, Any]] | None = None) -> list[bytes]:
    if provider == "anthropic":
        return bench.anthropic_raw(bench.anthropic_ended(entries or anthropic_entries())).split(b"\n")[:-1]
    batch = bench.openai_ended(entries or openai_entries())
    assert batch.output_file_id is not None
    return bench.openai.files.content(batch.output_file_id).content.split(b"\n")[:-1]


def ids(lines: list[bytes]) -> list[Any]:
    return [json.loads(line)["custom_id"] for line in lines]


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def line_fault(bench: Bench, how: str, **more: Any) -> None:
    bench.fault({"kind": "lines", "how": how, **more})


def test_duplicate_lines_come_twice(bench: Bench, provider: str) -> None:
    line_fault(bench, "duplicate", count=2)
    found = ids(raw_lines(bench, provider))
    assert len(found) == 12
    assert sorted(set(found)) == ENTRIES


def test_missing_lines_never_come(bench: Bench, provider: str) -> None:
    line_fault(bench, "missing", count=None, custom_ids=["e-1", "e-2"])
    assert sorted(ids(raw_lines(bench, provider))) == [name for name in ENTRIES if name not in {"e-1", "e-2"}]


def test_lines_for_strangers_come_on_top(bench: Bench, provider: str) -> None:
    line_fault(bench, "unknown_id", count=2)
    assert len(set(ids(raw_lines(bench, provider))) - set(ENTRIES)) == 2


def test_malformed_lines_are_no_json(bench: Bench, provider: str) -> None:
    line_fault(bench, "malformed", count=3)
    broken = 0
    for line in raw_lines(bench, provider):
        try:
            json.loads(line)
        except ValueError:
            broken += 1
    assert broken == 3


def test_lines_of_the_wrong_shape_are_json_of_many_kinds(bench: Bench, provider: str) -> None:
    line_fault(bench, "wrong_shape", count=None)
    kinds = {type(json.loads(line)).__name__ for line in raw_lines(bench, provider)}
    assert kinds >= {"list", "str", "int", "NoneType", "dict"}


def texts_in(value: Any) -> list[str]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for part in parts for text in texts_in(part)]


@pytest.mark.parametrize(
    ("how", "raw", "character"),
    [
        ("line_separator", "\u2028".encode(), "\u2028"),
        ("nul", rb"\u0000", "\x00"),
        ("lone_surrogate", rb"\ud800", "\ud800"),
    ],
)
def test_hard_characters_stand_in_the_answer(bench: Bench, provider: str, how: str, raw: bytes, character: str) -> None:
    line_fault(bench, how, custom_ids=["e-3"], count=None)
    lines = raw_lines(bench, provider)
    spoiled = [line for line in lines if raw in line]
    assert ids(spoiled) == ["e-3"]
    assert any(character in text for text in texts_in(json.loads(spoiled[0])))
    assert len(lines) == 10


@pytest.mark.parametrize("how", ["line_separator", "nul", "lone_surrogate"])
def test_hard_characters_keep_a_structured_answer_valid(bench: Bench, how: str) -> None:
    line_fault(bench, how)
    schema = {**CLOSED_SCHEMA, "properties": {"note": {"type": "string"}}, "required": ["note"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    lines = raw_lines(bench, "anthropic", [anthropic_entry("e", output_config=form)])
    note = json.loads(json.loads(lines[0])["result"]["message"]["content"][0]["text"])["note"]
    assert set(note) & {"\u2028", "\x00", "\ud800"}


def test_line_faults_survive_hard_characters_in_the_same_line(bench: Bench) -> None:
    line_fault(bench, "lone_surrogate", count=None)
    line_fault(bench, "duplicate", count=1)
    line_fault(bench, "unknown_id", count=1)
    assert len(raw_lines(bench, "openai")) == 12


def test_a_huge_answer_is_as_large_as_scripted(bench: Bench, provider: str) -> None:
    line_fault(bench, "huge", size=300_000)
    assert max(len(line) for line in raw_lines(bench, provider)) > 300_000


def test_line_faults_reach_the_error_file_too(bench: Bench) -> None:
    line_fault(bench, "missing", count=None, custom_ids=["bad-1"])
    batch = bench.openai_ended([openai_entry("bad-1", stream=True), openai_entry("bad-2", stream=True)])
    assert set(bench.openai_lines(batch)) == {"bad-2"}
