"""Anthropic's own SDK, strictly validating, against the simulator."""

import json
from datetime import UTC, timedelta
from typing import Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatchIndividualResponse
from pydantic import TypeAdapter

from overnight.simulator import Limits, Stages
from tests.conformance.bench import CLOSED_SCHEMA, SLOW, Bench, Simulate, anthropic_entry

LINE = TypeAdapter(MessageBatchIndividualResponse)


def test_a_batch_is_created_polled_and_read(bench: Bench) -> None:
    batch = bench.anthropic_batch([anthropic_entry(f"e-{n}") for n in range(20)])
    assert (batch.processing_status, batch.results_url, batch.ended_at) == ("in_progress", None, None)
    assert batch.expires_at - batch.created_at == timedelta(hours=24)
    assert batch.created_at.tzinfo is not None
    assert batch.created_at.utcoffset() == UTC.utcoffset(None)
    bench.advance(SLOW.in_progress / 2)
    counts = bench.anthropic.messages.batches.retrieve(batch.id).request_counts
    assert (counts.processing, counts.succeeded) == (20, 0), "Anthropic shows no progress before the end"
    bench.advance(SLOW.in_progress / 2)
    batch = bench.anthropic.messages.batches.retrieve(batch.id)
    assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 20)
    assert batch.results_url == f"{bench.where.url}/v1/messages/batches/{batch.id}/results"
    ids = [result.custom_id for result in bench.anthropic.messages.batches.results(batch.id)]
    assert sorted(ids) == sorted(f"e-{n}" for n in range(20))
    assert ids != [f"e-{n}" for n in range(20)], "lines come in an order of their own"


def test_every_result_line_is_what_the_sdk_types_say(simulate: Simulate) -> None:
    bench = simulate(stages=Stages(in_progress=100, canceling=0))
    entries = [anthropic_entry("bad", max_tokens=0), *(anthropic_entry(f"e-{n}") for n in range(9))]
    batch = bench.anthropic_batch(entries)
    bench.advance(80)
    bench.anthropic.messages.batches.cancel(batch.id)
    results = [LINE.validate_json(raw, strict=True).result for raw in bench.anthropic_raw(batch).splitlines()]
    assert {result.type for result in results} >= {"succeeded", "canceled"}
    messages = [result.message for result in results if result.type == "succeeded"]
    assert {message.usage.service_tier for message in messages} == {"batch"}


def test_results_are_json_lines_by_their_content_type(bench: Bench) -> None:
    batch = bench.anthropic_ended([anthropic_entry("a")])
    answer = bench.http.get(f"/v1/messages/batches/{batch.id}/results")
    assert answer.headers["content-type"].startswith("application/x-jsonl")
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("custom_id", "complaint"),
    [
        ("a" * 65, "requests.0.custom_id: String should have at most 64 characters"),
        ("", "requests.0.custom_id: String should have at least 1 character"),
        ("a b", "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        ("a\n", "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
    ],
)
def test_a_bad_custom_id_refuses_the_whole_create(bench: Bench, custom_id: str, complaint: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        bench.anthropic_batch([anthropic_entry(custom_id), anthropic_entry("good")])
    body: Any = refused.value.body
    assert body["error"] == {"type": "invalid_request_error", "message": complaint}
    assert body["request_id"] == refused.value.request_id
    assert bench.batches_at("anthropic") == 0


def test_duplicate_custom_ids_refuse_the_whole_create(bench: Bench) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"requests.1.custom_id: Duplicate"):
        bench.anthropic_batch([anthropic_entry("a"), anthropic_entry("a")])
    assert bench.batches_at("anthropic") == 0


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not valid JSON"),
        (b'{"requests": [', "not valid JSON"),
        (b'{"requests": [{} {}]}', "Field required"),
        (b'{"requests": "all"}', "valid list"),
        (b'{"requests": []}', "at least 1 item"),
        (b"{}", "requests: Field required"),
        (b'{"wishes": 1, "requests": []}', "wishes: Extra inputs are not permitted"),
        (b'{"requests": [7]}', "requests.0: Input should be a valid dictionary"),
        (b'{"requests": [{"custom_id": "a"}]}', "requests.0.params: Field required"),
        (b'{"requests": [{"custom_id": 7, "params": {}}]}', "requests.0.custom_id: Input should be a valid string"),
        (b'{"requests": [{"custom_id": "a", "params": []}]}', "requests.0.params: Input should be a valid dictionary"),
        (b'{"requests": [{"custom_id": "\xff", "params": {}}]}', "not valid JSON"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(bench: Bench, body: bytes, complaint: str) -> None:
    refused = bench.http.post("/v1/messages/batches", content=body)
    assert refused.status_code == 400
    assert complaint in refused.json()["error"]["message"]
    assert bench.batches_at("anthropic") == 0


def test_a_pretty_printed_body_is_taken_apart_like_any_other(bench: Bench) -> None:
    body = json.dumps({"requests": [anthropic_entry("a", prompt="two\nlines"), anthropic_entry("b")]}, indent=2)
    batch_id = bench.http.post("/v1/messages/batches", content=body).json()["id"]
    bench.advance(SLOW.in_progress)
    lines = bench.anthropic_lines(bench.anthropic.messages.batches.retrieve(batch_id))
    assert {custom_id: result["type"] for custom_id, result in lines.items()} == {"a": "succeeded", "b": "succeeded"}


def test_requests_larger_than_the_reading_window_survive(bench: Bench) -> None:
    huge = anthropic_entry("huge", prompt="é" * 3_000_000)
    batch = bench.anthropic_ended([anthropic_entry("before"), huge, anthropic_entry("after")])
    lines = bench.anthropic_lines(batch)
    assert set(lines) == {"before", "huge", "after"}
    assert lines["huge"]["message"]["usage"]["input_tokens"] > 1_000_000


def test_a_create_over_the_limits_is_too_large(simulate: Simulate) -> None:
    bench = simulate(limits=Limits(anthropic_requests=3, anthropic_body_bytes=5000))
    for entries in ([anthropic_entry(f"e-{n}") for n in range(4)], [anthropic_entry("a", prompt="x" * 6000)]):
        with pytest.raises(anthropic.APIStatusError) as refused:
            bench.anthropic_batch(entries)
        body: Any = refused.value.body
        assert (refused.value.status_code, body["error"]["type"]) == (413, "request_too_large")
    chunked = bench.http.post("/v1/messages/batches", content=iter([b"x" * 4000, b"x" * 4000]))
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    ("params", "kind", "complaint"),
    [
        ({"max_tokens": 0}, "invalid_request_error", "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": None}, "invalid_request_error", "max_tokens: Field required"),
        ({"messages": []}, "invalid_request_error", "messages: at least one message is required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_request_error", "messages.0.role"),
        ({"messages": ["x"]}, "invalid_request_error", "messages.0: Input should be a valid dictionary"),
        ({"stream": True}, "invalid_request_error", "stream"),
        ({"model": "lama-7"}, "not_found_error", "model: lama-7"),
        ({"temperature": 0.5}, "invalid_request_error", "temperature: Extra inputs are not permitted"),
    ],
)
def test_bad_params_are_an_errored_line_and_not_a_refusal(
    bench: Bench, params: dict[str, Any], kind: str, complaint: str
) -> None:
    batch = bench.anthropic_ended([anthropic_entry("bad", **params), anthropic_entry("good")])
    assert (batch.request_counts.errored, batch.request_counts.succeeded) == (1, 1)
    lines = bench.anthropic_lines(batch)
    assert lines["good"]["type"] == "succeeded"
    assert lines["bad"]["error"]["error"]["type"] == kind
    assert complaint in lines["bad"]["error"]["error"]["message"]


def test_sampling_parameters_are_taken_under_the_older_version(bench: Bench) -> None:
    body = {"requests": [anthropic_entry("a", temperature=0.5)]}
    batch_id = bench.http.post("/v1/messages/batches", json=body).json()["id"]
    bench.advance(SLOW.in_progress)
    assert bench.anthropic.messages.batches.retrieve(batch_id).request_counts.succeeded == 1


def test_a_canceled_batch_ends_and_keeps_what_was_finished(bench: Bench) -> None:
    batch = bench.anthropic_batch([anthropic_entry(f"e-{n}") for n in range(10)])
    bench.advance(51)
    batch = bench.anthropic.messages.batches.cancel(batch.id)
    assert (batch.processing_status, batch.request_counts.processing) == ("canceling", 10)
    assert batch.cancel_initiated_at is not None
    bench.advance(10)
    batch = bench.anthropic.messages.batches.retrieve(batch.id)
    assert batch.processing_status == "ended"
    assert (batch.request_counts.succeeded, batch.request_counts.canceled) == (5, 5)
    kinds = [result["type"] for result in bench.anthropic_lines(batch).values()]
    assert (kinds.count("succeeded"), kinds.count("canceled")) == (5, 5)


def test_an_expired_batch_ends_with_expired_entries(simulate: Simulate) -> None:
    bench = simulate(stages=Stages(in_progress=100, window=40))
    batch = bench.anthropic_ended([anthropic_entry(f"e-{n}") for n in range(10)])
    assert (batch.processing_status, batch.cancel_initiated_at) == ("ended", None)
    assert (batch.request_counts.succeeded, batch.request_counts.expired) == (4, 6)
    kinds = [result["type"] for result in bench.anthropic_lines(batch).values()]
    assert (kinds.count("succeeded"), kinds.count("expired")) == (4, 6)


def test_batches_are_listed_newest_first_in_both_directions(bench: Bench) -> None:
    ids = [bench.anthropic_batch([anthropic_entry("a")]).id for _ in range(5)]
    listing = bench.anthropic.messages.batches.list
    assert [b.id for b in listing(limit=2)] == ids[::-1]
    newer = listing(limit=2, before_id=ids[1])
    assert ([b.id for b in newer.data], newer.has_more) == ([ids[3], ids[2]], True)
    page = listing(limit=2, after_id=ids[2])
    assert ([b.id for b in page.data], page.has_more, page.first_id) == ([ids[1], ids[0]], False, ids[1])


def test_only_a_batch_that_has_ended_is_deleted(bench: Bench) -> None:
    batch = bench.anthropic_batch([anthropic_entry("a")])
    with pytest.raises(anthropic.BadRequestError):
        bench.anthropic.messages.batches.delete(batch.id)
    bench.advance(SLOW.in_progress)
    assert bench.anthropic.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        bench.anthropic.messages.batches.retrieve(batch.id)


def test_results_are_archived_29_days_after_creation(bench: Bench) -> None:
    batch = bench.anthropic_ended([anthropic_entry("a")])
    bench.advance(29 * 86_400)
    batch = bench.anthropic.messages.batches.retrieve(batch.id)
    assert (batch.results_url, batch.archived_at is not None) == (None, True)
    assert bench.http.get(f"/v1/messages/batches/{batch.id}/results").status_code == 404


def test_what_is_not_there_is_not_found(bench: Bench) -> None:
    batches = bench.anthropic.messages.batches
    with pytest.raises(anthropic.NotFoundError):
        batches.retrieve("msgbatch_nowhere")
    with pytest.raises(anthropic.NotFoundError):
        batches.cancel("msgbatch_nowhere")
    unfinished = bench.anthropic_batch([anthropic_entry("a")])
    early = bench.http.get(f"/v1/messages/batches/{unfinished.id}/results")
    assert (early.status_code, early.json()["error"]["type"]) == (404, "not_found_error")
    wrong = bench.http.get("/v1/messages/nowhere")
    assert (wrong.status_code, wrong.json()["type"]) == (404, "error")


def test_an_ended_batch_cannot_be_canceled(bench: Bench) -> None:
    batch = bench.anthropic_ended([anthropic_entry("a")])
    with pytest.raises(anthropic.BadRequestError):
        bench.anthropic.messages.batches.cancel(batch.id)


def test_both_forms_of_the_key_are_read_and_bad_ones_refused(bench: Bench) -> None:
    path, version = "/v1/messages/batches", {"anthropic-version": "2023-06-01", "authorization": ""}
    assert bench.http.get(path, headers={**version, "x-api-key": "k"}).status_code == 200
    assert bench.http.get(path, headers={**version, "authorization": "Bearer k"}).status_code == 200
    assert bench.http.get(path, headers=version).json()["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.AuthenticationError):
        bench.anthropic.with_options(api_key="invalid-key").messages.batches.list()


def test_the_version_header_is_required(bench: Bench) -> None:
    refused = bench.http.get("/v1/messages/batches", headers={"anthropic-version": ""})
    assert refused.status_code == 400
    assert "anthropic-version" in refused.json()["error"]["message"]


def test_structured_output_fits_its_schema(bench: Bench) -> None:
    form = {"format": {"type": "json_schema", "schema": CLOSED_SCHEMA}}
    batch = bench.anthropic_ended([anthropic_entry("a", output_config=form)])
    answer = json.loads(bench.anthropic_lines(batch)["a"]["message"]["content"][0]["text"])
    assert answer["mood"] in {"good", "bad"}
    assert 0 <= answer["score"] <= 1


def test_a_schema_that_is_not_closed_is_an_errored_line(bench: Bench) -> None:
    form = {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}
    lines = bench.anthropic_lines(bench.anthropic_ended([anthropic_entry("a", output_config=form)]))
    assert "additionalProperties" in lines["a"]["error"]["error"]["message"]


def test_messages_answer_at_once_with_tools_and_budgets(bench: Bench) -> None:
    said = bench.anthropic.messages.create(
        model="claude-sonnet-5", max_tokens=100, messages=[{"role": "user", "content": "The night is long."}]
    )
    assert (said.content[0].type, said.stop_reason, said.usage.service_tier) == ("text", "end_turn", "standard")
    short = bench.anthropic.messages.create(
        model="claude-sonnet-5", max_tokens=2, messages=[{"role": "user", "content": "A long night " * 9}]
    )
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    called = bench.anthropic.messages.create(
        model="claude-sonnet-5",
        max_tokens=100,
        messages=[{"role": "user", "content": "Judge"}],
        tools=[{"name": "judge", "input_schema": CLOSED_SCHEMA}],
        tool_choice={"type": "any"},
    )
    assert called.stop_reason == "tool_use"
    assert called.content[0].type == "tool_use"
    assert called.content[0].input["mood"] in {"good", "bad"}
