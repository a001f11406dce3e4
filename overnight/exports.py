"""Entries with what came of them, as files: JSON Lines, CSV and Parquet, in bounded memory.

No Task is needed for it: fields and outputs are written as they are stored.
"""

import csv
import io
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO, Protocol

from pydantic_core import from_json, to_json

from overnight.batches import Batch, Outcome
from overnight.errors import MissingExtraError, ResponseError
from overnight.providers import provider_facts
from overnight.providers.base import ProviderFacts
from overnight.storage.outputs import StoredEntry
from overnight.storage.store import Store
from overnight.texts import visible

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
MONEY = ("cost", "list_cost")
JSON_COLUMNS = ("output", "tool_calls", "fields", "response")
COLUMNS = ("custom_id", "outcome", "output", "tool_calls", "error_code", "reason", *TOKENS, *MONEY, "task", "fields")
"""In every format, and in this order; `response`, the provider's line, comes last where it is asked for."""

# What spreadsheets take for the beginning of a formula; the last four are its full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_GROUP_ROWS = 20_000
_GROUP_BYTES = 32 * 1024 * 1024
_MONEY_DIGITS, _MONEY_SCALE = 38, 18

Row = Mapping[str, Any]


class ExportFormat(StrEnum):
    """How entries are written to a file."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class RowWriter(Protocol):
    """Writes rows to an open binary file, which stays open."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write what is still to be written."""
        ...


def columns(*, responses: bool) -> Sequence[str]:
    """The columns of an export."""
    return (*COLUMNS, "response") if responses else COLUMNS


def open_writer(kind: ExportFormat, sink: BinaryIO, *, responses: bool = False) -> RowWriter:
    """A writer to an open binary file.

    Raises:
        MissingExtraError: Parquet needs the extra `parquet`.
    """
    names = columns(responses=responses)
    match kind:
        case ExportFormat.JSONL:
            return JsonLinesWriter(sink, names)
        case ExportFormat.CSV:
            return CsvWriter(sink, names)
        case ExportFormat.PARQUET:
            return ParquetWriter(sink, names)


async def export(store: Store, batch: Batch, writer: RowWriter, outcomes: Collection[Outcome] | None = None) -> int:
    """Write a batch's entries in the order of adding, and return how many there were."""
    count = 0
    async for rows in export_rows(store, batch, outcomes):
        writer.write(rows)
        count += len(rows)
    writer.close()
    return count


async def export_rows(
    store: Store, batch: Batch, outcomes: Collection[Outcome] | None = None
) -> AsyncIterator[Sequence[Row]]:
    """A batch's entries as rows, in pages of bounded size."""
    facts = provider_facts(batch.provider)
    async for page in store.outputs.pages(batch.id, outcomes=outcomes):
        yield [_row(stored, facts, batch.endpoint) for stored in page]


def _row(stored: StoredEntry, facts: ProviderFacts, endpoint: str) -> Row:
    return {
        "custom_id": stored.custom_id,
        "outcome": stored.outcome.value if stored.outcome else None,
        "output": _output(stored, facts, endpoint),
        "tool_calls": _parsed(stored.tool_calls),
        "error_code": stored.error_code,
        "reason": stored.reason,
        **{name: getattr(stored.usage, name) for name in TOKENS},
        "cost": stored.cost.billed,
        "list_cost": stored.cost.list_price,
        "task": stored.task,
        "fields": _parsed(stored.fields),
        "response": _parsed(stored.line),
    }


def _output(stored: StoredEntry, facts: ProviderFacts, endpoint: str) -> Any:
    """What the Task made of the response. A raw request has no Task: what the model said is all there can be."""
    if stored.task is not None or stored.outcome is not Outcome.SUCCEEDED:
        return _parsed(stored.output)
    with suppress(ResponseError):
        response = facts.read_response((stored.line or "").encode(), endpoint=endpoint)
        return list(response.embedding) if response.embedding is not None else response.text or None
    return None


def _parsed(text: str | None) -> Any:
    """JSON as its value; what a provider sent may also be none, and is a text then."""
    if text is None:
        return None
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return text


class JsonLinesWriter:
    """One object per line. Money is text, as everywhere in our JSON."""

    def __init__(self, sink: BinaryIO, names: Sequence[str]) -> None:
        self._sink, self._names = sink, names

    def write(self, rows: Sequence[Row]) -> None:
        self._sink.write("".join(f"{self._line(row)}\n" for row in rows).encode())

    def _line(self, row: Row) -> str:
        return visible(to_json({name: _plain(row[name]) for name in self._names}).decode())

    def close(self) -> None:
        """Nothing is left."""


class CsvWriter:
    """With a header. A cell that a spreadsheet would run as a formula begins with an apostrophe instead."""

    def __init__(self, sink: BinaryIO, names: Sequence[str]) -> None:
        self._sink, self._names = sink, names
        self._write([names])

    def write(self, rows: Sequence[Row]) -> None:
        self._write([_cell(name, row[name]) for name in self._names] for row in rows)

    def _write(self, rows: Any) -> None:
        # Ends of lines as in RFC 4180: with others, Python before 3.13 leaves a lone carriage return unquoted.
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._sink.write(text.getvalue().encode())

    def close(self) -> None:
        """Nothing is left."""


def _cell(name: str, value: Any) -> Any:
    value = _text(value) if name in JSON_COLUMNS else _plain(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _plain(value: Any) -> Any:
    """Money without an exponent, which not every reader takes."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def _text(value: Any) -> str | None:
    """A JSON value as text; a text stays itself, without quotes."""
    return value if value is None or isinstance(value, str) else to_json(value).decode()


class ParquetWriter:
    """Typed columns, in row groups of bounded size; JSON columns are text."""

    def __init__(self, sink: BinaryIO, names: Sequence[str]) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow import parquet as pq  # noqa: PLC0415 - "
        except ImportError:
            raise MissingExtraError("The Parquet format", "parquet") from None
        money = pa.decimal128(_MONEY_DIGITS, _MONEY_SCALE)
        kinds = dict.fromkeys(TOKENS, pa.int64()) | dict.fromkeys(MONEY, money)
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
        self._batch_of = pa.RecordBatch.from_pylist
        self._writer = pq.ParquetWriter(sink, self._schema, compression="zstd")
        self._rows: list[Row] = []
        self._size = 0

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            kept = {name: _typed(name, row[name]) for name in self._schema.names}
            self._rows.append(kept)
            self._size += sum(len(value) for value in kept.values() if isinstance(value, str))
        if len(self._rows) >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(self._batch_of(self._rows, schema=self._schema))
        self._rows, self._size = [], 0

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def _typed(name: str, value: Any) -> Any:
    if name in JSON_COLUMNS:
        return _text(value)
    if name in MONEY and value is not None:
        return value.quantize(Decimal(1).scaleb(-_MONEY_SCALE))
    return value
