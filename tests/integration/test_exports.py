import csv
import io
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from overnight.batches import Cost, Outcome, Usage
from overnight.errors import MissingExtraError
from overnight.exports import COLUMNS, ExportFormat, export, open_writer
from overnight.storage.answers import Verdict
from overnight.storage.store import Store
from tests.integration.rows import ROOM, block, each, filled, new_batch, new_entry, result

ANSWER = {"model": "m", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi\x1b\x9b31m"}]}]}
LINE = json.dumps({"custom_id": "raw", "response": {"status_code": 200, "body": {"status": "completed"} | ANSWER}})
CALLS = '[{"id":"c","name":"refund","arguments":{"amount":1.5},"result":"done","error_code":null,"error":null}]'
USAGE = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2)
COST = Cost(billed=Decimal("0.00000125"), list_price=Decimal("0.0000025"))


@pytest.fixture
async def batch_id(store: Store) -> UUID:
    """An answered task, a raw request, a failure, and one that nobody answered."""
    new = new_batch()
    entries = [
        new_entry("task", fields='{"text":"naïve"}'),
        new_entry("raw", task=None, fields=None),
        new_entry("=1+1"),
        new_entry("-open"),
    ]
    await store.entries.create_filled(new, each(entries), ROOM)
    results = [
        result(1, usage=USAGE, cost=COST, line='{"custom_id": "task"}'),
        result(2, line=LINE),
        result(3, outcome=Outcome.ERRORED, error_code="server_error", reason="@never", line="not JSON"),
    ]
    await store.results.write(new.id, block(results, to=9))
    await store.outputs.write(
        new.id, [Verdict(position=1, output='{"label":"good"}', tool_calls=CALLS)], before=0, after=1
    )
    return new.id


async def exported(store: Store, batch_id: UUID, kind: ExportFormat, **more: Any) -> bytes:
    sink = io.BytesIO()
    outcomes: Sequence[Outcome] | None = more.pop("outcomes", None)
    await export(store, await store.batches.get(batch_id), open_writer(kind, sink, **more), outcomes)
    return sink.getvalue()


async def test_json_lines_hold_every_entry_with_all_columns(store: Store, batch_id: UUID) -> None:
    rows = [json.loads(line) for line in (await exported(store, batch_id, ExportFormat.JSONL)).splitlines()]
    assert [tuple(row) for row in rows] == [COLUMNS] * 4
    assert [row["custom_id"] for row in rows] == ["task", "raw", "=1+1", "-open"]
    assert rows[0] == {
        "custom_id": "task",
        "outcome": "succeeded",
        "output": {"label": "good"},
        "tool_calls": json.loads(CALLS),
        "error_code": None,
        "reason": None,
        "input_tokens": 10,
        "cache_read_tokens": 4,
        "cache_write_tokens": 0,
        "output_tokens": 5,
        "reasoning_tokens": 2,
        "cost": "0.00000125",
        "list_cost": "0.0000025",
        "task": "Ask",
        "fields": {"text": "naïve"},
    }
    assert (rows[2]["outcome"], rows[2]["error_code"], rows[2]["reason"]) == ("errored", "server_error", "@never")
    assert (rows[3]["outcome"], rows[3]["output"], rows[3]["cost"]) == (None, None, None)


async def test_the_output_of_a_raw_request_is_the_text_of_its_answer(store: Store, batch_id: UUID) -> None:
    rows = [json.loads(line) for line in (await exported(store, batch_id, ExportFormat.JSONL)).splitlines()]
    assert rows[1]["output"] == "Hi\x1b\x9b31m"


async def test_responses_come_as_they_were_received_when_asked_for(store: Store, batch_id: UUID) -> None:
    data = await exported(store, batch_id, ExportFormat.JSONL, responses=True)
    assert [json.loads(line)["response"] for line in data.splitlines()] == [
        {"custom_id": "task"},
        json.loads(LINE),
        "not JSON",
        None,
    ]


async def test_only_the_wanted_outcomes_are_written(store: Store, batch_id: UUID) -> None:
    data = await exported(store, batch_id, ExportFormat.JSONL, outcomes=[Outcome.ERRORED])
    assert [json.loads(line)["custom_id"] for line in data.splitlines()] == ["=1+1"]


async def test_json_lines_hold_nothing_that_a_terminal_would_obey(store: Store, batch_id: UUID) -> None:
    text = (await exported(store, batch_id, ExportFormat.JSONL, responses=True)).decode()
    assert not [char for char in text if (ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0]


async def test_csv_cells_that_a_spreadsheet_would_run_are_neutralised(store: Store, batch_id: UUID) -> None:
    rows = list(csv.DictReader(io.StringIO((await exported(store, batch_id, ExportFormat.CSV)).decode(), newline="")))
    assert [row["custom_id"] for row in rows] == ["task", "raw", "'=1+1", "'-open"]
    assert rows[2]["reason"] == "'@never"
    assert (rows[0]["output"], rows[0]["fields"]) == ('{"label":"good"}', '{"text":"naïve"}')
    assert (rows[0]["tool_calls"], rows[1]["tool_calls"]) == (CALLS, "")
    assert (rows[1]["output"], rows[1]["cost"]) == ("Hi\x1b\x9b31m", "0.000001")
    assert (rows[3]["outcome"], rows[3]["output"], rows[3]["cost"]) == ("", "", "")


async def test_whatever_begins_like_a_formula_does_not_begin_so_in_csv(store: Store) -> None:
    texts = ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\uff1d1"]
    batch_id = await filled(store, len(texts))
    results = [result(n, outcome=Outcome.INVALID, reason=text, error_code=text) for n, text in enumerate(texts, 1)]
    await store.results.write(batch_id, block(results, to=9))
    data = await exported(store, batch_id, ExportFormat.CSV)
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [(row["reason"], row["error_code"]) for row in rows] == [(f"'{text}", f"'{text}") for text in texts]


async def test_parquet_has_typed_columns_and_exact_money(store: Store, batch_id: UUID, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "results.parquet"
    file.write_bytes(await exported(store, batch_id, ExportFormat.PARQUET, responses=True))
    table = parquet.read_table(file)
    assert table.column_names == [*COLUMNS, "response"]
    rows = table.to_pylist()
    assert (rows[0]["cost"], rows[0]["input_tokens"], rows[3]["cost"]) == (Decimal("0.00000125"), 10, None)
    assert (rows[0]["output"], rows[1]["output"], rows[1]["fields"]) == ('{"label":"good"}', "Hi\x1b\x9b31m", None)
    assert (rows[0]["tool_calls"], rows[1]["tool_calls"]) == (CALLS, None)
    assert rows[2]["custom_id"] == "=1+1"


async def test_parquet_is_written_in_groups_of_rows(
    store: Store, batch_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("overnight.exports._GROUP_ROWS", 2)
    monkeypatch.setattr("overnight.storage.outputs._PAGE_ENTRIES", 1)
    data = parquet.ParquetFile(io.BytesIO(await exported(store, batch_id, ExportFormat.PARQUET)))
    assert [data.metadata.row_group(group).num_rows for group in range(data.num_row_groups)] == [2, 2]


async def test_a_batch_without_entries_is_a_file_without_rows(store: Store) -> None:
    from pyarrow import parquet

    batch_id = (await store.batches.create(new_batch())).id
    assert await exported(store, batch_id, ExportFormat.JSONL) == b""
    assert (await exported(store, batch_id, ExportFormat.CSV)).decode().split() == [",".join(COLUMNS)]
    assert parquet.read_table(io.BytesIO(await exported(store, batch_id, ExportFormat.PARQUET))).num_rows == 0


async def test_without_the_packages_parquet_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"overnight\[parquet\]"):
        open_writer(ExportFormat.PARQUET, io.BytesIO())
