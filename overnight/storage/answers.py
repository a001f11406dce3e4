"""What hydration reads and writes, in bulk: pages of answers as arrays, and rows of outputs made by hand."""

import struct
from collections.abc import AsyncGenerator, Iterable
from typing import NamedTuple
from uuid import UUID

from psycopg.sql import SQL
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.storage.binary_copy import SIGNATURE, TRAILER
from overnight.storage.database import fetching
from overnight.storage.tables import results

# As of entries on their way out (`overnight.storage.entries`): one row with arrays arrives several times as fast as
# rows of their own, a stretch of positions is read by the index whatever the planner believes, and the sizes of texts
# are known without reading them (of json only as it is stored: its text would have to be read). The conditions are said
# of both tables, for the planner infers no ranges.
_PAGE = SQL("""
    select max(position), array_agg(position order by position), array_agg(custom_id order by position),
        array_agg(task order by position), array_agg(fields::text order by position), array_agg(line order by position)
    from (
        select *, sum(size) over (order by position) - size as bytes_before
        from (
            select position, entries.custom_id, entries.task, entries.fields, results.line,
                coalesce(octet_length(results.line), 0) + coalesce(pg_column_size(entries.fields), 0) as size
            from overnight.entries join overnight.results using (batch_id, position)
            where entries.batch_id = %(batch)s and entries.position > %(after)s and entries.position <= %(end)s
                and results.batch_id = %(batch)s and results.position > %(after)s and results.position <= %(end)s
                and results.outcome = 'succeeded' and entries.task is not null
        ) as stretch
    ) as measured
    where bytes_before < %(bytes)s
""").format()
PAGE_ENTRIES = 2_500
PAGE_BYTES = 4 * 1024 * 1024

COPY_OUTPUTS = "copy overnight.outputs (batch_id, position, output, tool_calls) from stdin (format binary)"
_COLUMNS = 4
_POSITION = struct.Struct(">i")
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)


class Answer(NamedTuple):
    """A succeeded entry, as far as its Task needs it, as text that only the Task can read."""

    position: int
    custom_id: str
    task: str
    fields: str | None
    line: str | None


class Verdict(NamedTuple):
    """What hydration made of one response: its output as JSON text, or the reason why it is `invalid`.

    Attributes:
        output: None also for a fit answer of tool calls alone.
        tool_calls: the calls with their results as JSON text, where there are any.
    """

    position: int
    output: str | None = None
    error_code: str | None = None
    reason: str | None = None
    tool_calls: str | None = None

    @property
    def invalid(self) -> bool:
        """Whether the response cannot be used."""
        return self.error_code is not None


async def answer_pages(engine: AsyncEngine, batch_id: UUID, *, after: int) -> AsyncGenerator[list[Answer], None]:
    """The answers behind a position to entries that have a Task, in pages of bounded size; no transaction stays open
    between them.
    """
    last = select(func.coalesce(func.max(results.c.position), 0)).where(results.c.batch_id == batch_id)
    async with engine.connect() as connection:
        until = (await connection.execute(last)).scalar_one()
    while after < until:
        end = after + PAGE_ENTRIES
        wanted = {"batch": batch_id, "after": after, "end": end, "bytes": PAGE_BYTES}
        async with engine.connect() as connection:
            ((reached, *arrays),) = await fetching(connection, _PAGE, **wanted)
        after = reached or end
        if reached:
            yield list(map(Answer, *arrays))


def output_rows(batch_id: UUID, verdicts: Iterable[Verdict]) -> bytes:
    """Rows of `outputs` in COPY's binary form: of each verdict that has something to be kept."""
    head = struct.pack(">hi 16s i", _COLUMNS, 16, batch_id.bytes, 4)
    pieces = [SIGNATURE]
    for verdict in verdicts:
        if verdict.output is not None or verdict.tool_calls is not None:
            pieces += (head, _POSITION.pack(verdict.position), *_text(verdict.output), *_text(verdict.tool_calls))
    return b"".join((*pieces, TRAILER)) if len(pieces) > 1 else b""


def _text(value: str | None) -> tuple[bytes, ...]:
    if value is None:
        return (_NULL,)
    raw = value.encode()
    return _LENGTH.pack(len(raw)), raw
