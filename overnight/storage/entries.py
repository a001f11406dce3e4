"""Rows of `entries`: filled in bulk, read in pages."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import ColumnElement, Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.errors import BatchClosedError, BatchTooLargeError, DuplicateCustomIdError
from overnight.providers.base import EntryLine, Limits
from overnight.storage.batches import NewBatch, insert_batch, lock_batch
from overnight.storage.database import copying
from overnight.storage.tables import batches, entries

_COPY_IN = "copy overnight.entries (batch_id, position, custom_id, task, fields, request) from stdin"
_COPY_POSITIONS = "copy (select custom_id, position from overnight.entries where batch_id = %s) to stdout"

# Pages are cut by bytes: requests may be a few hundred bytes or, with images, some megabytes each.
_PAGE_ENTRIES = 2_000
_PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """An entry to be: checked and rendered.

    Attributes:
        custom_id: None for one that is made from `label` and the entry's position.
        label: what a default custom id begins with.
        fields: the Task's fields as JSON text, or None for a raw request.
        request: the provider's body as JSON text.
    """

    custom_id: str | None
    label: str
    task: str | None
    fields: str | None
    request: str


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a batch may hold, and how much of it framing takes."""

    provider: str
    limits: Limits
    frame_bytes: int


class _Filling:
    """One pass of adding: assigns positions and custom ids, and keeps count of the room."""

    def __init__(self, room: Room, *, entry_count: int, request_bytes: int) -> None:
        self._room = room
        self.entry_count, self.request_bytes = entry_count, request_bytes

    def row(self, batch_id: UUID, entry: NewEntry) -> tuple[object, ...]:
        self.entry_count += 1
        custom_id = entry.custom_id or f"{entry.label}-{self.entry_count}"
        self.request_bytes += len(custom_id) + len(entry.request.encode())
        self._check_room()
        return (batch_id, self.entry_count, custom_id, entry.task, entry.fields, entry.request)

    def _check_room(self) -> None:
        limits = self._room.limits
        if self.entry_count > limits.max_entries:
            raise BatchTooLargeError(self._room.provider, "entries", limits.max_entries)
        if self.request_bytes + self.entry_count * self._room.frame_bytes > limits.max_bytes:
            raise BatchTooLargeError(self._room.provider, "bytes", limits.max_bytes)


def _custom_id_of(error: UniqueViolation) -> str:
    """Custom ids are plain letters, digits, - and _, so the server's own text can be read back."""
    found = re.search(r"=\([^,]+, ([\w-]+)\)", error.diag.message_detail or "")
    return found.group(1) if found else "?"


class EntryStore:
    """Entries of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, batch_id: UUID, new: AsyncIterable[NewEntry], room: Room) -> int:
        """Add entries, all of them or, when anything is wrong, none; returns how many.

        Raises:
            BatchClosedError: the batch was submitted.
            BatchTooLargeError: they do not fit.
            DuplicateCustomIdError: a custom id is there already.
        """
        async with self._engine.begin() as connection:
            return await self._add(connection, batch_id, new, room)

    async def create_filled(self, batch: NewBatch, new: AsyncIterable[NewEntry], room: Room) -> None:
        """Add a batch together with its entries, unless a batch of this id is there already.

        Raises:
            BatchTooLargeError: they do not fit.
            DuplicateCustomIdError: a custom id comes twice.
        """
        async with self._engine.begin() as connection:
            if await insert_batch(connection, batch):
                await self._add(connection, batch.id, new, room)

    async def _add(self, connection: AsyncConnection, batch_id: UUID, new: AsyncIterable[NewEntry], room: Room) -> int:
        # The lock makes concurrent adds take turns, and a submit wait until it is clear which entries are in.
        batch = await lock_batch(connection, batch_id)
        if batch.sealed_at is not None:
            raise BatchClosedError(batch_id, "add entries to")
        filling = _Filling(room, entry_count=batch.entry_count, request_bytes=batch.request_bytes)
        await self._copy(connection, batch_id, new, filling)
        await connection.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(entry_count=filling.entry_count, request_bytes=filling.request_bytes)
        )
        return filling.entry_count - batch.entry_count

    async def _copy(
        self, connection: AsyncConnection, batch_id: UUID, new: AsyncIterable[NewEntry], filling: _Filling
    ) -> None:
        try:
            async with copying(connection, _COPY_IN) as copy:
                async for entry in new:
                    await copy.write_row(filling.row(batch_id, entry))
        except UniqueViolation as error:
            raise DuplicateCustomIdError(_custom_id_of(error)) from None

    async def pages(self, batch_id: UUID) -> AsyncIterator[Sequence[EntryLine]]:
        """The batch's entries in the order of adding, as they are sent."""
        async for page in self._pages(batch_id, entries.c.custom_id):
            yield [EntryLine(custom_id=row.custom_id, request=row.request) for row in page]

    async def requests(self, batch_id: UUID) -> AsyncIterator[Sequence[tuple[str | None, str]]]:
        """The Task and the request of every entry, in the order of adding."""
        async for page in self._pages(batch_id, entries.c.task):
            yield [(row.task, row.request) for row in page]

    async def _pages(self, batch_id: UUID, *columns: ColumnElement[Any]) -> AsyncIterator[Sequence[Row[Any]]]:
        """Pages of bounded size.

        Each page is a query of its own, so that an upload that takes an hour holds no transaction open for an hour.
        """
        query = (
            select(entries.c.position, entries.c.request, *columns)
            .where(entries.c.batch_id == batch_id, entries.c.position > bindparam("after"))
            .order_by(entries.c.position)
            .limit(_PAGE_ENTRIES)
        )
        after = 0
        while True:
            async with self._engine.connect() as connection:
                page: list[Row[Any]] = []
                size = 0
                async with connection.stream(query, {"after": after}) as rows:
                    async for row in rows:
                        page.append(row)
                        after, size = row.position, size + len(row.request)
                        if size > _PAGE_BYTES:
                            break
            if not page:
                return
            yield page

    async def positions(self, batch_id: UUID) -> dict[str, int]:
        """The position of each custom id: what result lines are matched with."""
        found: dict[str, int] = {}
        async with self._engine.connect() as connection, copying(connection, _COPY_POSITIONS, batch_id) as copy:
            async for block in copy:
                custom_id, _, position = bytes(block).decode().rstrip("\n").partition("\t")
                found[custom_id] = int(position)
        return found
