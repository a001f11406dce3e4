"""Rows of `entries`: filled in bulk, read in pages."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.ahead import read_ahead
from overnight.errors import BatchClosedError, BatchTooLargeError, DuplicateCustomIdError, OfCampaignError
from overnight.providers.base import EntryLine, Limits
from overnight.storage.batches import NewBatch, check_filler, insert_anew, insert_batch, lock_batch
from overnight.storage.database import copying, fetching
from overnight.storage.tables import batches, entries

COPY_ENTRIES = "copy overnight.entries (batch_id, position, custom_id, task, fields, request) from stdin"

# One text goes there and one array comes back: the driver looks at no single id. The inner query is one that no planner
# turns into a join which reads the whole batch for every block.
POSITIONS = text("""
    select array_agg(
        (select position from overnight.entries where batch_id = :batch_id and custom_id = wanted.custom_id)
        order by wanted.number
    )
    from string_to_table(:custom_ids, ',') with ordinality as wanted (custom_id, number)
""")

_OTHER_IDS = text("""
    select exists (
        select from overnight.entries where batch_id = :batch_id and custom_id <> :label || '-' || position
    )
""")

# Pages are cut by bytes: requests may be a few hundred bytes or, with images, some megabytes each.
_PAGE_ENTRIES = 5_000
_PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """An entry to be: checked and rendered.

    Attributes:
        custom_id: None for one that is made from `label` and the entry's position.
        label: what a default custom id begins with.
        fields: the Task's fields as JSON text, or None for a raw request.
        request: the provider's body as JSON text.
        inputs: how many inputs the request holds.
    """

    custom_id: str | None
    label: str
    task: str | None
    fields: str | None
    request: str
    inputs: int = 1


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a batch may hold, and how much of it framing takes."""

    provider: str
    limits: Limits
    frame_bytes: int


class Filling:
    """One pass of adding: assigns positions and custom ids, and keeps count of the room."""

    def __init__(self, room: Room, *, entry_count: int, request_bytes: int, input_count: int) -> None:
        self._room = room
        self.entry_count, self.request_bytes, self.input_count = entry_count, request_bytes, input_count

    def row(self, batch_id: UUID, entry: NewEntry) -> tuple[object, ...]:
        self.entry_count += 1
        custom_id = entry.custom_id or f"{entry.label}-{self.entry_count}"
        self.input_count += entry.inputs
        self.request_bytes += len(custom_id) + len(entry.request.encode())
        self._check_room()
        return (batch_id, self.entry_count, custom_id, entry.task, entry.fields, entry.request)

    def _check_room(self) -> None:
        limits = self._room.limits
        if self.entry_count > limits.max_entries:
            raise BatchTooLargeError(self._room.provider, "entries", limits.max_entries)
        if limits.max_inputs is not None and self.input_count > limits.max_inputs:
            raise BatchTooLargeError(self._room.provider, "inputs", limits.max_inputs)
        if self.request_bytes + self.entry_count * self._room.frame_bytes > limits.max_bytes:
            raise BatchTooLargeError(self._room.provider, "bytes", limits.max_bytes)


def page_query(column: str) -> Composed:
    """A page of one column beside the requests: as many of a stretch's first entries as fit. The sizes of texts are
    known without reading them.
    """
    return SQL("""
        select max(position), array_agg({column} order by position), array_agg(request order by position)
        from (
            select position, {column}, request, sum(size) over (order by position) - size as bytes_before
            from (
                select position, {column}, request, octet_length(request) as size
                from overnight.entries where batch_id = %s and position > %s and position <= %s
            ) as stretch
        ) as measured
        where bytes_before < %s
    """).format(column=Identifier(column))


def custom_id_of(error: UniqueViolation) -> str:
    """Custom ids are plain letters, digits, - and _, so the server's own text can be read back."""
    found = re.search(r"=\([^,]+, ([\w-]+)\)", error.diag.message_detail or "")
    return found.group(1) if found else "?"


class EntryStore:
    """Entries of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self, batch_id: UUID, new: AsyncIterable[NewEntry], room: Room, *, filling_token: UUID | None = None
    ) -> int:
        """Add entries, all of them or, when anything is wrong, none; returns how many.

        Raises:
            BatchClosedError: the batch was submitted.
            BatchTakenOverError: somebody else fills it anew.
            BatchTooLargeError: they do not fit.
            DuplicateCustomIdError: a custom id is there already.
        """
        async with self._engine.begin() as connection:
            return await self._add(connection, batch_id, new, room, filling_token)

    async def create_filled(self, batch: NewBatch, new: AsyncIterable[NewEntry], room: Room) -> None:
        """Add a batch together with its entries, unless a batch of this id is there already. One that has a key takes
        the place of a batch of this id that was never sealed.

        Raises:
            BatchTooLargeError: they do not fit.
            DuplicateCustomIdError: a custom id comes twice.
        """
        async with self._engine.begin() as connection:
            insert = insert_batch if batch.filling_token is None else insert_anew
            if await insert(connection, batch):
                await self._add(connection, batch.id, new, room, batch.filling_token)

    async def _add(
        self,
        connection: AsyncConnection,
        batch_id: UUID,
        new: AsyncIterable[NewEntry],
        room: Room,
        filling_token: UUID | None,
    ) -> int:
        # The lock makes concurrent adds take turns, and a submit wait until it is clear which entries are in.
        batch = await lock_batch(connection, batch_id)
        if batch.campaign_id is not None:
            raise OfCampaignError(batch_id, batch.campaign_id)
        if batch.sealed_at is not None:
            raise BatchClosedError(batch_id, "add entries to")
        await check_filler(connection, batch_id, filling_token)
        filling = Filling(
            room, entry_count=batch.entry_count, request_bytes=batch.request_bytes, input_count=batch.input_count
        )
        await self._copy(connection, batch_id, new, filling)
        await connection.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(
                entry_count=filling.entry_count, request_bytes=filling.request_bytes, input_count=filling.input_count
            )
        )
        return filling.entry_count - batch.entry_count

    async def _copy(
        self, connection: AsyncConnection, batch_id: UUID, new: AsyncIterable[NewEntry], filling: Filling
    ) -> None:
        try:
            async with copying(connection, COPY_ENTRIES) as copy:
                async for entry in new:
                    await copy.write_row(filling.row(batch_id, entry))
        except UniqueViolation as error:
            raise DuplicateCustomIdError(custom_id_of(error)) from None

    async def pages(self, batch_id: UUID) -> AsyncIterator[Sequence[EntryLine]]:
        """The batch's entries in the order of adding, as they are sent, in pages of bounded size.

        While one page is on its way to the provider, the next one is read.
        """
        async for custom_ids, requests in read_ahead(self._pages(batch_id, "custom_id")):
            yield list(map(EntryLine, custom_ids, requests))

    async def requests(self, batch_id: UUID) -> AsyncIterator[Iterable[tuple[str | None, str]]]:
        """The Task and the request of every entry, in the order of adding, in pages of bounded size."""
        async for tasks, requests in read_ahead(self._pages(batch_id, "task")):
            yield zip(tasks, requests, strict=True)

    async def containing(self, batch_id: UUID, wanted: str) -> AsyncIterator[tuple[int, str]]:
        """Position and request of each entry whose request has this text anywhere. Nothing of the others leaves the
        server.
        """
        query = select(entries.c.position, entries.c.request).where(
            entries.c.batch_id == batch_id, entries.c.request.contains(wanted, autoescape=True)
        )
        async with self._engine.connect() as connection, connection.stream(query) as rows:
            async for position, request in rows:
                yield position, request

    async def _pages(self, batch_id: UUID, column: str) -> AsyncGenerator[tuple[list[Any], list[str]], None]:
        """Each page is a query of its own, so that an upload that takes an hour holds no transaction open for an hour.

        A page is one row with two arrays: as rows of their own, entries take several times as long to arrive. It is a
        stretch of positions, which is read by the index whatever the planner believes of a table that was just filled;
        with a LIMIT instead it may sort all that is left of the batch for every page.
        """
        query, after, last = page_query(column), 0, await self._last_position(batch_id)
        while after < last:
            end = after + _PAGE_ENTRIES
            async with self._engine.connect() as connection:
                ((reached, *page),) = await fetching(connection, query, batch_id, after, end, _PAGE_BYTES)
            after = reached or end
            if reached:
                yield page[0], page[1]

    async def _last_position(self, batch_id: UUID) -> int:
        query = select(func.coalesce(func.max(entries.c.position), 0)).where(entries.c.batch_id == batch_id)
        async with self._engine.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def label(self, batch_id: UUID) -> str | None:
        """What all custom ids of the batch begin with, where each of them is one label, a hyphen and its position."""
        first = select(entries.c.custom_id).where(entries.c.batch_id == batch_id, entries.c.position == 1)
        async with self._engine.connect() as connection:
            custom_id = (await connection.execute(first)).scalar_one_or_none()
            if custom_id is None or not custom_id.endswith("-1"):
                return None
            label: str = custom_id.removesuffix("-1")
            others = await connection.execute(_OTHER_IDS, {"batch_id": batch_id, "label": label})
            return None if others.scalar_one() else label

    async def positions(self, batch_id: UUID, custom_ids: Sequence[str]) -> Sequence[int | None]:
        """The position of each custom id, in their order; None for one that the batch has not, such as an empty one.

        Result lines are matched with this, block by block, so that no batch is too large to be matched in memory.

        Args:
            batch_id: of which batch.
            custom_ids: of letters, digits, - and _, as the custom ids of all providers are.
        """
        if not any(custom_ids):
            return [None] * len(custom_ids)
        parameters = {"batch_id": batch_id, "custom_ids": ",".join(custom_ids)}
        async with self._engine.connect() as connection:
            found: Sequence[int | None] = (await connection.execute(POSITIONS, parameters)).scalar_one()
        return found
