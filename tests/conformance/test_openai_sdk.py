"""OpenAI's own SDK, strictly validating, against the simulator."""

import json
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import TypeAdapter

from overnight.simulator import Limits
from tests.conformance.bench import CLOSED_SCHEMA, OPENAI_LIFE, Bench, Simulate, jsonl, openai_entry

BODIES = {
    "/v1/responses": TypeAdapter(Response),
    "/v1/chat/completions": TypeAdapter(ChatCompletion),
    "/v1/embeddings": TypeAdapter(CreateEmbeddingResponse),
}


def test_a_file_is_uploaded_retrieved_listed_read_and_deleted(bench: Bench) -> None:
    content = jsonl([openai_entry("a")])
    sent = bench.openai.files.create(file=("night.jsonl", content), purpose="batch")
    assert (sent.bytes, sent.filename, sent.purpose, sent.status) == (len(content), "night.jsonl", "batch", "processed")
    assert sent.expires_at == sent.created_at + 30 * 86_400
    assert bench.openai.files.retrieve(sent.id) == sent
    assert bench.openai.files.content(sent.id).content == content
    assert [f.id for f in bench.openai.files.list(purpose="batch")] == [sent.id]
    assert bench.openai.files.delete(sent.id).deleted
    with pytest.raises(openai.NotFoundError):
        bench.openai.files.retrieve(sent.id)


def test_files_are_listed_newest_first_over_pages_and_oldest_first_on_request(bench: Bench) -> None:
    ids = [bench.upload(b"{}\n") for _ in range(5)]
    assert [f.id for f in bench.openai.files.list(limit=2)] == ids[::-1]
    assert [f.id for f in bench.openai.files.list(limit=2, order="asc")] == ids


def test_a_file_lives_as_long_as_its_upload_asked(bench: Bench) -> None:
    sent = bench.openai.files.create(
        file=("a.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert sent.expires_at == sent.created_at + 3600
    bench.advance(3601)
    with pytest.raises(openai.NotFoundError):
        bench.openai.files.content(sent.id)


def test_a_file_for_batches_must_be_named_jsonl(bench: Bench) -> None:
    with pytest.raises(openai.BadRequestError, match=r"Invalid file format for Batch API. Must be .jsonl"):
        bench.upload(b"{}\n", name="night.json")


def test_a_file_over_the_limit_is_refused(simulate: Simulate) -> None:
    bench = simulate(limits=Limits(openai_file_bytes=1000))
    with pytest.raises(openai.APIStatusError) as refused:
        bench.upload(b"x" * 70_000)
    assert refused.value.status_code == 413


def test_a_chunked_upload_is_read_and_limited_like_any_other(simulate: Simulate) -> None:
    bench = simulate(limits=Limits(openai_file_bytes=1_000_000))

    def form(size: int) -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="b.jsonl"\r\n\r\n'
        for _ in range(size // 1000):
            yield b"x" * 1000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert bench.http.post("/v1/files", content=form(500_000), headers=headers).json()["bytes"] == 500_000
    assert bench.http.post("/v1/files", content=form(1_200_000), headers=headers).status_code == 413


@pytest.mark.parametrize("endpoint", list(BODIES))
def test_every_result_line_is_what_the_sdk_types_say(bench: Bench, endpoint: str) -> None:
    extra = (
        {}
        if endpoint == "/v1/embeddings"
        else {"max_completion_tokens" if "chat" in endpoint else "max_output_tokens": 50}
    )
    batch = bench.openai_ended([openai_entry(f"e-{n}", url=endpoint, **extra) for n in range(20)], endpoint)
    assert batch.status == "completed"
    assert batch.output_file_id is not None
    lines = bench.openai.files.content(batch.output_file_id).content.splitlines()
    for line in lines:
        parsed = json.loads(line)
        assert parsed["error"] is None
        assert parsed["response"]["status_code"] == 200
        BODIES[endpoint].validate_json(json.dumps(parsed["response"]["body"]), strict=True)
    ids = [json.loads(line)["custom_id"] for line in lines]
    assert sorted(ids) == sorted(f"e-{n}" for n in range(20))
    assert ids != [f"e-{n}" for n in range(20)], "lines come in an order of their own"


def test_a_batch_goes_through_every_status_with_growing_counts(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry(f"e-{n}") for n in range(10)], metadata={"submission": "one"})
    seen = [(batch.status, batch.request_counts and batch.request_counts.completed)]
    for seconds in (10, 50, 50, 10):
        bench.advance(seconds)
        batch = bench.openai.batches.retrieve(batch.id)
        assert batch.request_counts is not None
        seen.append((batch.status, batch.request_counts.completed))
    assert [status for status, _ in seen] == ["validating", "in_progress", "in_progress", "finalizing", "completed"]
    counts = [count or 0 for _, count in seen]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 10)
    assert 0 < counts[2] < 10
    assert batch.metadata == {"submission": "one"}
    moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert moments == sorted(moment for moment in moments if moment is not None)
    assert batch.error_file_id is None


def test_the_usage_of_a_batch_is_the_sum_of_its_lines(bench: Bench) -> None:
    batch = bench.openai_ended([openai_entry(f"e-{n}", prompt="night " * n) for n in range(1, 8)])
    usages = [line["response"]["body"]["usage"] for line in bench.openai_lines(batch).values()]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(u["input_tokens"] for u in usages)
    assert batch.usage.output_tokens == sum(u["output_tokens"] for u in usages) > 0


def test_refused_entries_are_in_the_error_file_and_nowhere_else(bench: Bench) -> None:
    entries = [openai_entry("good"), openai_entry("stream", stream=True), openai_entry("budget", max_output_tokens=0)]
    batch = bench.openai_ended(entries)
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)
    assert batch.error_file_id is not None
    errors = [json.loads(line) for line in bench.openai.files.content(batch.error_file_id).content.splitlines()]
    assert {line["custom_id"] for line in errors} == {"stream", "budget"}
    for line in errors:
        assert line["error"] is None
        assert line["response"]["status_code"] == 400
        assert line["response"]["body"]["error"]["type"] == "invalid_request_error"


def test_a_batch_of_nothing_but_errors_has_no_output_file(bench: Bench) -> None:
    batch = bench.openai_ended([openai_entry("stream", stream=True)])
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert batch.error_file_id is not None


def line(custom_id: str, /, **changes: Any) -> bytes:
    return jsonl([{**openai_entry(custom_id), **changes}])


@pytest.mark.parametrize(
    ("content", "code", "at"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (line("a") + b"{not json\n", "invalid_json_line", 2),
        (line("a") + b"[1]\n", "invalid_json_line", 2),
        (line("a") + line("a"), "duplicate_custom_id", 2),
        (line("a", url="/v1/embeddings"), "url_mismatch", 1),
        (line("a") + line("b", body={"model": "gpt-4o", "input": "x"}), "model_mismatch", 2),
        (line("a", body={"model": "lama-7", "input": "x"}), "model_not_found", 1),
        (line("a", body={"input": "x"}), "missing_required_parameter", 1),
        (line("a", custom_id=None), "missing_required_parameter", 1),
        (line("a", custom_id=["b"]), "invalid_type", 1),
        (line("a", body=None), "missing_required_parameter", 1),
        (line("a", body="x"), "invalid_request", 1),
        (line("a", method="GET"), "invalid_method", 1),
    ],
)
def test_a_bad_file_is_accepted_and_fails_its_batch_at_validation(
    bench: Bench, content: bytes, code: str, at: int
) -> None:
    batch = bench.openai_batch(content)
    assert (batch.status, batch.errors) == ("validating", None)
    bench.advance(10)
    batch = bench.openai.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, at)]
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0


def test_a_batch_over_its_limits_fails_at_validation(simulate: Simulate) -> None:
    bench = simulate(limits=Limits(openai_requests=3, openai_embedding_inputs=5))
    many = bench.openai_ended([openai_entry(f"e-{n}") for n in range(4)])
    wide = bench.openai_ended([openai_entry("e", url="/v1/embeddings", input=["x"] * 6)], "/v1/embeddings")
    for batch in (many, wide):
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [error.code for error in batch.errors.data] == ["too_many_tasks"]


def test_the_limits_that_hold_by_default_are_the_published_ones() -> None:
    limits = Limits()
    assert (limits.openai_requests, limits.openai_file_bytes) == (50_000, 200 * 1024 * 1024)
    assert (limits.anthropic_requests, limits.anthropic_body_bytes) == (100_000, 256 * 1024 * 1024)


def test_too_many_enqueued_tokens_fail_a_batch_until_the_queue_is_shorter(simulate: Simulate) -> None:
    bench = simulate(limits=Limits(openai_enqueued_tokens=100))
    entries = [openai_entry("a", prompt="night " * 50)]
    first = bench.openai_batch(entries)
    second = bench.openai_batch(entries)
    bench.advance(OPENAI_LIFE)
    assert bench.openai.batches.retrieve(first.id).status == "completed"
    second = bench.openai.batches.retrieve(second.id)
    assert second.errors is not None
    assert second.errors.data is not None
    assert second.errors.data[0].code == "token_limit_exceeded"
    assert bench.openai_ended(entries).status == "completed"


@pytest.mark.parametrize(
    "changes",
    [
        {"completion_window": "48h"},
        {"endpoint": "/v1/moderate"},
        {"input_file_id": "file-nowhere"},
        {"metadata": {f"k{n}": "v" for n in range(17)}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
    ],
)
def test_a_bad_create_is_refused_at_once(bench: Bench, changes: dict[str, Any]) -> None:
    good = {"input_file_id": bench.upload(line("a")), "endpoint": "/v1/responses", "completion_window": "24h"}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
        bench.openai.batches.create(**{**good, **changes})  # type: ignore[arg-type]  # wrong on purpose
    assert bench.batches_at("openai") == 0


def test_output_files_live_as_long_as_the_batch_asked(bench: Bench) -> None:
    batch = bench.openai_ended([openai_entry("a")], output_expires_after={"anchor": "created_at", "seconds": 7200})
    assert batch.output_file_id is not None
    output = bench.openai.files.retrieve(batch.output_file_id)
    assert output.purpose == "batch_output"
    assert output.expires_at == output.created_at + 7200


def test_batches_are_listed_newest_first_over_pages(bench: Bench) -> None:
    ids = [bench.openai_batch([openai_entry("a")]).id for _ in range(5)]
    assert [b.id for b in bench.openai.batches.list(limit=2)] == ids[::-1]
    page = bench.openai.batches.list(limit=5)
    assert not page.has_more
    assert bench.openai.batches.list(limit=4).has_more


def test_an_empty_list_is_a_list(bench: Bench) -> None:
    assert list(bench.openai.batches.list()) == []
    assert list(bench.openai.files.list()) == []


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_size_out_of_range_is_refused(bench: Bench, limit: int) -> None:
    with pytest.raises(openai.BadRequestError):
        bench.openai.batches.list(limit=limit)


def test_a_canceled_batch_keeps_what_was_finished(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry(f"e-{n}") for n in range(10)])
    bench.advance(60)
    batch = bench.openai.batches.cancel(batch.id)
    assert batch.status == "cancelling"
    assert bench.openai.batches.cancel(batch.id).cancelling_at == batch.cancelling_at, "a second cancel changes nothing"
    bench.advance(10)
    batch = bench.openai.batches.retrieve(batch.id)
    assert (batch.status, batch.completed_at) == ("cancelled", None)
    lines = bench.openai_lines(batch)
    assert len(lines) == 10
    canceled = [entry for entry in lines.values() if entry["response"] is None]
    assert {entry["error"]["code"] for entry in canceled} == {"batch_cancelled"}
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 10 - len(canceled) == 5


def test_a_batch_that_is_over_cannot_be_canceled(bench: Bench) -> None:
    batch = bench.openai_ended([openai_entry("a")])
    with pytest.raises(openai.ConflictError, match="completed"):
        bench.openai.batches.cancel(batch.id)


def test_an_expired_batch_keeps_what_was_finished(simulate: Simulate) -> None:
    from overnight.simulator import Stages

    bench = simulate(stages=Stages(validating=0, in_progress=100, finalizing=10, window=40))
    batch = bench.openai_batch([openai_entry(f"e-{n}") for n in range(10)])
    assert batch.expires_at == batch.created_at + 40
    bench.advance(50)
    batch = bench.openai.batches.retrieve(batch.id)
    assert (batch.status, batch.expired_at is not None) == ("expired", True)
    lines = bench.openai_lines(batch)
    expired = [entry for entry in lines.values() if entry["response"] is None]
    assert (len(lines), len(expired)) == (10, 6)
    assert {entry["error"]["code"] for entry in expired} == {"batch_expired"}


def test_a_batch_outlives_the_deletion_of_its_input_file(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry("a")])
    bench.openai.files.delete(batch.input_file_id)
    bench.advance(OPENAI_LIFE)
    assert set(bench.openai_lines(bench.openai.batches.retrieve(batch.id))) == {"a"}


def test_an_unknown_batch_is_not_found(bench: Bench) -> None:
    with pytest.raises(openai.NotFoundError, match="batch_nowhere"):
        bench.openai.batches.retrieve("batch_nowhere")
    with pytest.raises(openai.NotFoundError):
        bench.openai.batches.cancel("batch_nowhere")


def test_a_bad_key_and_no_key_are_unauthorized(bench: Bench) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        bench.openai.with_options(api_key="invalid-key").batches.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id is not None
    bare = bench.http.get("/v1/batches", headers={"authorization": ""})
    assert (bare.status_code, bare.json()["error"]["type"]) == (401, "invalid_request_error")


def test_only_configured_keys_are_accepted(simulate: Simulate) -> None:
    bench = simulate(keys=frozenset({"the-key"}))
    with pytest.raises(openai.AuthenticationError):
        bench.openai.batches.list()
    assert list(bench.openai.with_options(api_key="the-key").batches.list()) == []


def test_structured_output_fits_its_schema(bench: Bench) -> None:
    form = {"type": "json_schema", "name": "mood", "strict": True, "schema": CLOSED_SCHEMA}
    batch = bench.openai_ended([openai_entry("a", text={"format": form})])
    body = bench.openai_lines(batch)["a"]["response"]["body"]
    answer = json.loads(Response.model_validate(body).output_text)
    assert answer["mood"] in {"good", "bad"}
    assert 0 <= answer["score"] <= 1


def test_a_strict_schema_must_be_closed_and_require_everything(bench: Bench) -> None:
    open_ = {**CLOSED_SCHEMA, "additionalProperties": True}
    optional = {**CLOSED_SCHEMA, "required": ["mood"]}
    entries = [
        openai_entry(name, text={"format": {"type": "json_schema", "name": "mood", "strict": True, "schema": schema}})
        for name, schema in (("open", open_), ("optional", optional))
    ]
    lines = bench.openai_lines(bench.openai_ended(entries))
    messages = {name: entry["response"]["body"]["error"]["message"] for name, entry in lines.items()}
    assert "'additionalProperties' is required" in messages["open"]
    assert "Missing 'score'" in messages["optional"]


def test_the_synchronous_endpoints_answer_at_once(bench: Bench) -> None:
    client = bench.openai
    assert client.responses.create(model="gpt-5", input="The night is long.").output_text == "The night is long."
    chat = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hello night"}])
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("Hello night", "stop")
    vectors = client.embeddings.create(
        model="text-embedding-3-small", input=["a", "b"], dimensions=8, encoding_format="float"
    )
    assert [len(v.embedding) for v in vectors.data] == [8, 8]
    assert sum(x * x for x in vectors.data[0].embedding) == pytest.approx(1)


def test_embeddings_come_packed_when_the_sdk_asks_for_it(bench: Bench) -> None:
    lax = openai.OpenAI(base_url=bench.where.openai_base_url, api_key="k", max_retries=0)
    with lax:
        packed = lax.embeddings.create(model="text-embedding-3-small", input="night", dimensions=8)
        plain = lax.embeddings.create(
            model="text-embedding-3-small", input="night", dimensions=8, encoding_format="float"
        )
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_an_unknown_model_is_not_found_outside_batches(bench: Bench) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        bench.openai.responses.create(model="lama-7", input="x")
    assert refused.value.code == "model_not_found"


def test_a_demanded_tool_is_called_with_valid_arguments(bench: Bench) -> None:
    function = {"name": "judge", "parameters": CLOSED_SCHEMA, "strict": True}
    chat = bench.openai.chat.completions.create(
        model="gpt-5",
        messages=[{"role": "user", "content": "Judge the night"}],
        tools=[{"type": "function", "function": function}],  # type: ignore[list-item]  # the schema is a plain dict
        tool_choice="required",
    )
    assert chat.choices[0].finish_reason == "tool_calls"
    assert chat.choices[0].message.tool_calls
    call = chat.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert json.loads(call.function.arguments)["mood"] in {"good", "bad"}
    answered = bench.openai.responses.create(
        model="gpt-5",
        input="Judge the night",
        tools=[{"type": "function", **function}],  # type: ignore[list-item]  # as above
        tool_choice={"type": "function", "name": "judge"},
    )
    assert answered.output[0].type == "function_call"
    assert json.loads(answered.output[0].arguments)["mood"] in {"good", "bad"}


def test_an_answer_over_its_budget_is_cut_off_and_says_so(bench: Bench) -> None:
    prompt = "a long night " * 50
    short = bench.openai.responses.create(model="gpt-5", input=prompt, max_output_tokens=5)
    assert (short.status, short.incomplete_details and short.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert short.usage is not None
    assert short.usage.output_tokens == 5
    chat = bench.openai.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": prompt}], max_completion_tokens=5
    )
    assert chat.choices[0].finish_reason == "length"


def test_a_wrong_path_is_refused_in_openai_form(bench: Bench) -> None:
    refused = bench.http.get("/v1/nowhere")
    assert refused.status_code == 404
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert bench.http.put("/v1/batches").status_code == 405
