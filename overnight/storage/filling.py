"""A campaign's entries, written once: into one batch after the other, each opened when the one before is full."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import Row, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import OnAmbiguousSubmit
from overnight.errors import BatchClosedError, DuplicateCustomIdError, RequestError
from overnight.ids import new_batch_id
from overnight.planning import Planner, Share
from overnight.schedule import PollSchedule
from overnight.storage.batches import NewBatch, insert_batch
from overnight.storage.campaigns import check_campaign_filler, lock_campaign
from overnight.storage.database import copying
from overnight.storage.entries import COPY_ENTRIES, NewEntry, custom_id_of
from overnight.storage.tables import batches, campaigns, entries

_COPY_ATTEMPTS = "copy overnight.attempts (batch_id, position, earlier_batch_id, earlier_position) from stdin"


@dataclass(frozen=True, kw_only=True)
class FurtherEntry(NewEntry):
    """An entry that asks again what an earlier one asked."""

    earlier_batch_id: UUID
    earlier_position: int


class Filler:
    """One pass of adding to a campaign, within the caller's transaction.

    Attributes:
        touched: the batches that got entries, each with how many it had before.
        has_own_ids: whether any custom id was not made here.
    """

    def __init__(self, connection: AsyncConnection, campaign: Row[Any], share: Share, *, round_number: int) -> None:
        self._connection, self._campaign, self._share, self._round = connection, campaign, share, round_number
        self._planner = Planner(share)
        self._batch_id: UUID | None = None
        self._number = 0
        self._links: list[tuple[UUID, int, UUID, int]] = []
        self.numbered: int = campaign.entry_count
        self.touched: dict[UUID, int] = {}
        self.has_own_ids = campaign.has_own_ids

    async def fill(self, new: AsyncIterable[NewEntry]) -> int:
        """Write the entries; returns how many.

        Raises:
            DuplicateCustomIdError: a custom id comes twice within a batch.
            RequestError: an entry is larger than a batch may be.
        """
        await self._resume()
        before, coming = self.numbered, aiter(new)
        entry = await anext(coming, None)
        while entry is not None:
            if self._batch_id is None or not self._planner.has_room(self._identified(entry)[1], entry.inputs):
                await self._open()
            entry = await self._copy(entry, coming)
            await self._write_counts()
        return self.numbered - before

    async def _resume(self) -> None:
        """Go on with the last batch, which may have room left."""
        last = select(func.max(batches.c.number)).where(batches.c.campaign_id == self._campaign.id)
        self._number = (await self._connection.execute(last)).scalar_one() or 0
        query = select(batches).where(batches.c.campaign_id == self._campaign.id, batches.c.number == self._number)
        row = (await self._connection.execute(query)).one_or_none()
        if row is not None and row.round == self._round:
            self._batch_id, self.touched[row.id] = row.id, row.entry_count
            held = {"entry_count": row.entry_count, "request_bytes": row.request_bytes, "input_count": row.input_count}
            self._planner = Planner(self._share, **held)

    async def _open(self) -> None:
        self._number += 1
        self._batch_id = new_batch_id()
        self.touched[self._batch_id] = 0
        self._planner.open_next()
        campaign = self._campaign
        batch = NewBatch(
            id=self._batch_id,
            provider=campaign.provider,
            model=campaign.model,
            endpoint=campaign.endpoint,
            handler=None,  # the campaign's runs once, over all of them
            # Beside an activity that may know nothing of them the Tasks are not.
            handler_task_queue=None if campaign.handler_activity else campaign.handler_task_queue,
            campaign_id=campaign.id,
            number=self._number,
            round=self._round,
            metadata={},
            schedule=PollSchedule(waits=tuple(campaign.poll_waits), max_age=campaign.batch_max_age),
            on_ambiguous_submit=OnAmbiguousSubmit(campaign.on_ambiguous_submit),
        )
        await insert_batch(self._connection, batch)

    async def _copy(self, entry: NewEntry, coming: AsyncIterator[NewEntry]) -> NewEntry | None:
        """Copy entries into the open batch, and return the one that did not fit any more, if any."""
        following: NewEntry | None = entry
        try:
            async with copying(self._connection, COPY_ENTRIES) as copy:
                while following is not None:
                    custom_id, size = self._identified(following)
                    if not self._planner.has_room(size, following.inputs):
                        self._check_fits_at_all(custom_id)
                        return following
                    await copy.write_row(self._row(following, custom_id, size))
                    following = await anext(coming, None)
        except UniqueViolation as error:
            raise DuplicateCustomIdError(custom_id_of(error), what="campaign") from None
        return None

    def _identified(self, entry: NewEntry) -> tuple[str, int]:
        """The entry's custom id, and the bytes that it takes in a batch."""
        custom_id = entry.custom_id or f"{entry.label}-{self.numbered + 1}"
        return custom_id, len(custom_id) + len(entry.request.encode())

    def _check_fits_at_all(self, custom_id: str) -> None:
        if self._planner.entry_count == 0:
            raise RequestError(
                f"Entry {custom_id}: it alone is larger than a batch may be, which is {self._share.max_bytes:,} bytes"
                f"{f' and {self._share.max_inputs:,} inputs' if self._share.max_inputs else ''}."
            )

    def _row(self, entry: NewEntry, custom_id: str, size: int) -> tuple[object, ...]:
        assert self._batch_id is not None
        position = self._planner.take(size, entry.inputs)
        self.numbered += 1
        self.has_own_ids = self.has_own_ids or entry.custom_id is not None
        if isinstance(entry, FurtherEntry):
            self._links.append((self._batch_id, position, entry.earlier_batch_id, entry.earlier_position))
        return (self._batch_id, position, custom_id, entry.task, entry.fields, entry.request)

    async def _write_counts(self) -> None:
        planned = self._planner
        values = {
            "entry_count": planned.entry_count,
            "request_bytes": planned.request_bytes,
            "input_count": planned.input_count,
        }
        await self._connection.execute(update(batches).where(batches.c.id == self._batch_id).values(values))
        if self._links:
            async with copying(self._connection, _COPY_ATTEMPTS) as copy:
                for link in self._links:
                    await copy.write_row(link)
            self._links.clear()


class FillingStore:
    """Adding entries to campaigns."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self,
        campaign_id: UUID,
        new: AsyncIterable[NewEntry],
        share: Share,
        *,
        filling_token: UUID | None = None,
    ) -> int:
        """Add entries, all of them or, when anything is wrong, none; returns how many.

        Raises:
            BatchClosedError: the campaign was submitted.
            BatchTakenOverError: somebody else fills it anew.
            DuplicateCustomIdError: a custom id is in the campaign already.
            RequestError: an entry is larger than a batch may be.
        """
        async with self._engine.begin() as connection:
            # The lock makes concurrent adds take turns, and a submit wait until it is clear which entries are in.
            campaign = await lock_campaign(connection, campaign_id)
            if campaign.sealed_at is not None:
                raise BatchClosedError(campaign_id, "add entries to", what="campaign")
            check_campaign_filler(campaign, filling_token)
            filler = Filler(connection, campaign, share, round_number=1)
            count = await filler.fill(new)
            if filler.has_own_ids:
                await _check_unique(connection, campaign_id, filler.touched)
            values = {"entry_count": filler.numbered, "has_own_ids": filler.has_own_ids}
            await connection.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(values))
        return count


async def _check_unique(connection: AsyncConnection, campaign_id: UUID, touched: dict[UUID, int]) -> None:
    """Within a batch a unique index says it at once. Across batches an index would slow every insert down, so it is
    looked for here: once per call of `add_all`, and only where custom ids are not all numbered.
    """
    own = select(batches.c.id).where(batches.c.campaign_id == campaign_id)
    if len(touched) == 1:
        ((batch_id, before),) = touched.items()
        other = entries.alias("other")
        same = and_(other.c.batch_id.in_(own.where(batches.c.id != batch_id)), other.c.custom_id == entries.c.custom_id)
        new = entries.c.batch_id == batch_id, entries.c.position > before
        query = select(entries.c.custom_id).join(other, same).where(*new).limit(1)
    else:
        of_all = entries.c.batch_id.in_(own)
        query = (
            select(entries.c.custom_id).where(of_all).group_by(entries.c.custom_id).having(func.count() > 1).limit(1)
        )
    found = (await connection.execute(query)).scalar_one_or_none()
    if found is not None:
        raise DuplicateCustomIdError(found, what="campaign")
