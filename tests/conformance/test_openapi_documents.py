"""The vendors' own OpenAPI documents accept what the simulator says.

The documents are not part of this repository: OVERNIGHT_OPENAPI_DIR names a folder with `openai-batch.json` and
`anthropic-batch.json`.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conformance.bench import SLOW, Bench, anthropic_entry, openai_entry

FOLDER = os.environ.get("OVERNIGHT_OPENAPI_DIR", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="OVERNIGHT_OPENAPI_DIR does not name the vendors' OpenAPI documents")

Check = Callable[[str, Any], None]


def checker(name: str, *, loose_nulls: bool) -> Check:
    document = json.loads((Path(FOLDER) / name).read_text())

    def check(schema: str, value: Any) -> None:
        jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{schema}", "components": document["components"]},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        ).validate(without_nulls(value) if loose_nulls else value)

    return check


def without_nulls(value: Any) -> Any:
    """Optional properties may be null at OpenAI, though its text, read literally, forbids it."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


@pytest.fixture
def openai_says() -> Check:
    return checker("openai-batch.json", loose_nulls=True)


@pytest.fixture
def anthropic_says() -> Check:
    return checker("anthropic-batch.json", loose_nulls=False)


def test_openai_accepts_files_and_their_lists(bench: Bench, openai_says: Check) -> None:
    file_id = bench.upload(b"{}\n")
    openai_says("OpenAIFile", bench.http.get(f"/v1/files/{file_id}").json())
    openai_says("ListFilesResponse", bench.http.get("/v1/files").json())
    openai_says("DeleteFileResponse", bench.http.delete(f"/v1/files/{file_id}").json())
    openai_says("ListFilesResponse", bench.http.get("/v1/files").json())


def test_openai_accepts_a_batch_in_every_status(bench: Bench, openai_says: Check) -> None:
    good = bench.openai_batch([openai_entry("a"), openai_entry("b", stream=True)], metadata={"k": "v"})
    failed, canceled = bench.openai_batch(b"no\n"), bench.openai_batch([openai_entry("a")])
    bench.fault({"kind": "batch", "how": "expire"})
    expired = bench.openai_batch([openai_entry("a")])
    bench.openai.batches.cancel(canceled.id)
    seen = set()
    for seconds in (0, 5, 5, 50, 50, 10):
        bench.advance(seconds)
        for batch in (good, failed, canceled, expired):
            now = bench.http.get(f"/v1/batches/{batch.id}").json()
            openai_says("Batch", now)
            seen.add(now["status"])
    assert seen == {
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    }
    openai_says("ListBatchesResponse", bench.http.get("/v1/batches").json())


def test_openai_accepts_the_errors(bench: Bench) -> None:
    check = checker("openai-batch.json", loose_nulls=False)
    for answer in (
        bench.http.get("/v1/batches/batch_none"),
        bench.http.get("/v1/batches", headers={"authorization": ""}),
        bench.http.post("/v1/batches", json={}),
        bench.http.get("/v1/nowhere"),
    ):
        assert answer.is_client_error
        check("ErrorResponse", answer.json())


def test_anthropic_accepts_a_batch_in_every_status(bench: Bench, anthropic_says: Check) -> None:
    batch, canceled = (bench.anthropic_batch([anthropic_entry("a")]) for _ in range(2))
    bench.anthropic.messages.batches.cancel(canceled.id)
    seen = set()
    for seconds in (0, SLOW.in_progress):
        bench.advance(seconds)
        for one in (batch, canceled):
            now = bench.http.get(f"/v1/messages/batches/{one.id}").json()
            anthropic_says("MessageBatch", now)
            seen.add(now["processing_status"])
    assert seen == {"in_progress", "canceling", "ended"}
    anthropic_says("ListResponse_MessageBatch_", bench.http.get("/v1/messages/batches").json())
    anthropic_says("DeleteMessageBatchResponse", bench.http.delete(f"/v1/messages/batches/{batch.id}").json())


def test_anthropic_accepts_every_kind_of_result_line(bench: Bench, anthropic_says: Check) -> None:
    tool = {"name": "judge", "input_schema": {"type": "object", "properties": {}}}
    entries = [
        anthropic_entry("text"),
        anthropic_entry("tool", tools=[tool], tool_choice={"type": "tool", "name": "judge"}),
        anthropic_entry("short", max_tokens=1),
        anthropic_entry("bad", max_tokens=0),
        anthropic_entry("no-model", model="lama-7"),
    ]
    bench.control(
        "PUT",
        "answers",
        [{"custom_id": f"err-{k}", "error": {"kind": k}} for k in ("rate_limit", "overloaded", "server", "timeout")],
    )
    entries += [anthropic_entry(f"err-{k}") for k in ("rate_limit", "overloaded", "server", "timeout")]
    raw = bench.anthropic_raw(bench.anthropic_ended(entries))
    bench.fault({"kind": "batch", "how": "expire"})
    raw += bench.anthropic_raw(bench.anthropic_ended(entries))
    canceled = bench.anthropic_batch(entries)
    bench.anthropic.messages.batches.cancel(canceled.id)
    bench.advance(10)
    raw += bench.anthropic_raw(canceled)
    lines = [json.loads(line) for line in raw.splitlines()]
    for line in lines:
        anthropic_says("MessageBatchIndividualResponse", line)
    assert {line["result"]["type"] for line in lines} == {"succeeded", "errored", "expired", "canceled"}


def test_anthropic_accepts_the_errors(bench: Bench, anthropic_says: Check) -> None:
    for answer in (
        bench.http.get("/v1/messages/batches/msgbatch_none"),
        bench.http.get("/v1/messages/batches", headers={"authorization": ""}),
        bench.http.post("/v1/messages/batches", json={}),
        bench.http.get("/v1/messages/nowhere"),
    ):
        assert answer.is_client_error
        anthropic_says("ErrorResponse", answer.json())
