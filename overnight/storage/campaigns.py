"""Rows of `campaigns`: what is known of a campaign, and every change of its state."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, Update, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import TERMINAL, Batch, BatchStatus, OnAmbiguousSubmit
from overnight.campaigns import Campaign, ending_of, latest_outcomes, whole_cost, whole_usage
from overnight.errors import (
    BatchClosedError,
    BatchTakenOverError,
    CancelRefusedError,
    EmptyBatchError,
    UnknownCampaignError,
)
from overnight.schedule import PollSchedule
from overnight.storage.batches import MAX_AGE_EXCEEDED, batch_of, cleared, new_values, plain_values
from overnight.storage.tables import batches, campaigns, submissions
from overnight.storage.troubles import Troubled


@dataclass(frozen=True, kw_only=True)
class NewCampaign:
    """A campaign to be."""

    id: UUID
    provider: str
    model: str
    endpoint: str
    handler: str | None
    handler_task_queue: str | None
    handler_activity: str | None = None
    metadata: Mapping[str, Any]
    schedule: PollSchedule
    max_age: timedelta | None
    on_ambiguous_submit: OnAmbiguousSubmit
    rounds: int
    retry_invalid: bool
    max_concurrent_batches: int
    max_batch_entries: int | None
    max_cost: Decimal | None = None
    parent_batch_id: UUID | None = None
    filling_token: UUID | None = None
    """As a batch's: where the campaign has a key."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look at a campaign's batches found.

    Attributes:
        over: which of the batches that were asked about are over and done.
        found: batches beside those that were asked about that some workflow has claimed and not finished.
        without_room: which of them the provider does not take for now.
        waiting: batches that nobody has started yet, in the order in which they are to be.
        statuses: how many batches there are in each status.
        done: entries that the provider has answered, as far as it says.
    """

    over: Sequence[UUID]
    found: Sequence[UUID]
    without_room: Sequence[UUID]
    waiting: Sequence[UUID]
    statuses: Mapping[BatchStatus, int]
    done: int


def campaign_of(row: Row[Any], parts: Sequence[Batch]) -> Campaign:
    """The value of a row and the rows of its batches."""
    statuses = [part.status for part in parts]
    return campaign_with(
        row,
        batches={status: statuses.count(status) for status in BatchStatus if status in statuses},
        outcomes=latest_outcomes(parts),
        asked_again=sum(sum(part.retried.values()) for part in parts),
        usage=whole_usage(parts),
        cost=whole_cost(parts),
    )


def campaign_with(row: Row[Any], **sums: Any) -> Campaign:
    """The value of a row and of the sums over its batches."""
    derived: dict[str, Any] = {
        "status": BatchStatus(row.status),
        "schedule": PollSchedule(waits=tuple(row.poll_waits), max_age=row.batch_max_age),
        "on_ambiguous_submit": OnAmbiguousSubmit(row.on_ambiguous_submit),
    }
    return Campaign(**plain_values(row, Campaign) | derived | sums)


async def lock_campaign(connection: AsyncConnection, campaign_id: UUID) -> Row[Any]:
    """Read a campaign's row and keep others from changing it until the transaction ends.

    Raises:
        UnknownCampaignError: there is no such campaign.
    """
    query = select(campaigns).where(campaigns.c.id == campaign_id).with_for_update(key_share=True)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise UnknownCampaignError(campaign_id)
    return row


def is_to_end(row: Row[Any]) -> bool:
    """Whether nothing more is to be asked: it is over, or somebody or its max age has stopped it."""
    return row.ended_at is not None or row.cancel_requested_at is not None or row.failure_code is not None


def check_campaign_filler(row: Row[Any], token: UUID | None) -> None:
    """Make sure that nobody else has begun to fill the locked campaign anew; without a token anybody may fill it.

    Raises:
        BatchTakenOverError: somebody has.
    """
    if token not in {None, row.filling_token}:
        raise BatchTakenOverError(row.id, what="campaign")


async def insert_campaign(connection: AsyncConnection, new: NewCampaign) -> bool:
    """Add the row of a `pending` campaign, in the caller's transaction; false where there is one of this id."""
    values = new_values(new) | {"batch_max_age": new.schedule.max_age}
    statement = insert(campaigns).values(values).on_conflict_do_nothing(index_elements=["id"])
    return (await connection.execute(statement.returning(campaigns.c.id))).one_or_none() is not None


async def parts_of(connection: AsyncConnection, campaign_id: UUID) -> list[Batch]:
    """The campaign's batches of all rounds, in the order in which they were filled."""
    query = select(batches).where(batches.c.campaign_id == campaign_id).order_by(batches.c.number)
    return [batch_of(row) for row in await connection.execute(query)]


# Taken by a workflow of ours, and not by the provider: its queue was full, or what it said keeps being tried.
_WITHOUT_ROOM = and_(
    batches.c.workflow_id.is_not(None),
    batches.c.status == BatchStatus.PENDING.value,
    or_(
        batches.c.trouble_code.is_not(None),
        exists().where(submissions.c.batch_id == batches.c.id, submissions.c.accepted_at.is_not(None)),
    ),
)


def _unfinished(campaign_id: UUID, started: Collection[UUID]) -> Select[Any]:
    """Batches beside those that are known to be started. Between a start and its claim only the starter knows of it."""
    return select(batches.c.id).where(
        batches.c.campaign_id == campaign_id, batches.c.handler_dispatched_at.is_(None), batches.c.id.not_in(started)
    )


def _waiting(campaign_id: UUID, started: Collection[UUID]) -> Select[Any]:
    return _unfinished(campaign_id, started).where(batches.c.workflow_id.is_(None))


def _ended_unsent(campaign_id: UUID, started: Collection[UUID], *, too_old: bool) -> Update:
    why = "The campaign's max age passed" if too_old else "Canceled"
    values = {
        "status": (BatchStatus.EXPIRED if too_old else BatchStatus.CANCELED).value,
        "failure_code": MAX_AGE_EXCEEDED if too_old else "canceled",
        "failure_reason": f"{why} before it was sent; nothing was paid.",
        "ended_at": func.now(),
    }
    unsent = batches.c.id.in_(_waiting(campaign_id, started)), batches.c.workflow_id.is_(None)
    return update(batches).where(*unsent, batches.c.status.not_in(TERMINAL)).values(values)


class CampaignStore(Troubled):
    """Campaigns."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, campaigns)

    async def create(self, new: NewCampaign) -> None:
        """Add a `pending` campaign without entries."""
        async with self._engine.begin() as connection:
            await insert_campaign(connection, new)

    async def create_by_key(self, new: NewCampaign) -> Campaign:
        """Add a `pending` campaign without entries, or return the sealed one of this id. One that was never sealed is
        made anew, empty, as a batch of a key is.
        """
        async with self._engine.begin() as connection:
            while not await insert_campaign(connection, new):
                if not await cleared(connection, campaigns, new.id):
                    break
        return await self.get(new.id)

    async def get(self, campaign_id: UUID) -> Campaign:
        """Read a campaign with the sums over its batches.

        Raises:
            UnknownCampaignError: there is no such campaign.
        """
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(campaigns).where(campaigns.c.id == campaign_id))).one_or_none()
            if row is None:
                raise UnknownCampaignError(campaign_id)
            return campaign_of(row, await parts_of(connection, campaign_id))

    async def batches(self, campaign_id: UUID) -> list[Batch]:
        """Its batches of all rounds, in the order in which they were filled."""
        async with self._engine.connect() as connection:
            return await parts_of(connection, campaign_id)

    async def recent(self, *, limit: int) -> list[Campaign]:
        """The newest campaigns first."""
        query = select(campaigns).order_by(campaigns.c.created_at.desc()).limit(limit)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
            return [campaign_of(row, await parts_of(connection, row.id)) for row in rows]

    async def unfinished(self) -> list[Campaign]:
        """Campaigns that were submitted and whose handler has not run: each should have a running workflow."""
        query = select(campaigns).where(campaigns.c.sealed_at.is_not(None), campaigns.c.handler_dispatched_at.is_(None))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query.order_by(campaigns.c.created_at))).all()
            return [campaign_of(row, await parts_of(connection, row.id)) for row in rows]

    async def unsealed(self) -> list[UUID]:
        """Campaigns with entries that nobody has submitted, as far as this database knows."""
        is_open = campaigns.c.sealed_at.is_(None), campaigns.c.ended_at.is_(None)
        query = select(campaigns.c.id).where(*is_open, campaigns.c.entry_count > 0)
        async with self._engine.connect() as connection:
            return list((await connection.execute(query.order_by(campaigns.c.created_at))).scalars())

    async def known(self, campaign_ids: Collection[UUID]) -> set[UUID]:
        """Those of them that there are."""
        query = select(campaigns.c.id).where(campaigns.c.id.in_(campaign_ids))
        async with self._engine.connect() as connection:
            return set((await connection.execute(query)).scalars())

    async def seal(
        self, campaign_id: UUID, *, entry_count: int | None = None, filling_token: UUID | None = None
    ) -> tuple[Campaign, bool]:
        """Close the campaign to further entries; also says whether this call was the one that closed it.

        Args:
            campaign_id: which campaign.
            entry_count: leave it open, should it have come to hold more entries than these by now.
            filling_token: of whoever fills it, where it was created by a key.

        Raises:
            BatchTakenOverError: somebody else fills it anew.
            EmptyBatchError: it has no entries.
        """
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            closes = row.sealed_at is None and row.ended_at is None and entry_count in {None, row.entry_count}
            if row.sealed_at is None:
                check_campaign_filler(row, filling_token)
            if row.entry_count == 0:
                raise EmptyBatchError(campaign_id, what="campaign")
            if closes:
                await self._change(connection, campaign_id, sealed_at=func.now(), status=BatchStatus.SUBMITTED.value)
        return await self.get(campaign_id), closes

    async def claim(self, campaign_id: UUID, workflow_id: str) -> Campaign:
        """Give the campaign to one workflow for good; asking again with the same id changes nothing.

        Raises:
            BatchClosedError: another workflow runs it, or it ended before it was handed over.
            EmptyBatchError: it has no entries.
        """
        await self.seal(campaign_id)
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            if row.sealed_at is None or row.workflow_id not in {None, workflow_id}:
                raise BatchClosedError(campaign_id, f"start workflow {workflow_id} for", what="campaign")
            status = row.status if BatchStatus(row.status).is_terminal else BatchStatus.IN_PROGRESS.value
            await self._change(connection, campaign_id, workflow_id=workflow_id, status=status)
        return await self.get(campaign_id)

    async def close(self, campaign_id: UUID, *, code: str, reason: str) -> None:
        """End a campaign that was never handed over as failed: nothing of it is sent, and its handler does not run."""
        values = {"status": BatchStatus.FAILED.value, "failure_code": code, "failure_reason": reason}
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            if row.sealed_at is None and row.ended_at is None:
                await self._change(connection, campaign_id, ended_at=func.now(), **values)

    async def look(self, campaign_id: UUID, started: Collection[UUID], *, limit: int) -> Seen:
        """How the campaign's batches are, and which are to be started next."""
        over = select(batches.c.id).where(batches.c.id.in_(started), batches.c.handler_dispatched_at.is_not(None))
        held = select(batches.c.id).where(batches.c.id.in_(started), _WITHOUT_ROOM)
        counts = (
            select(batches.c.status, func.count(), func.sum(batches.c.progress_done))
            .where(batches.c.campaign_id == campaign_id)
            .group_by(batches.c.status)
        )
        found = _unfinished(campaign_id, started).where(batches.c.workflow_id.is_not(None))
        waiting = _waiting(campaign_id, started).order_by(batches.c.number).limit(limit)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(counts)).all()
            # What is claimed between two queries is in both, and started twice does no harm. In neither it would count
            # as over, and the campaign as well.
            following = (await connection.execute(waiting)).scalars().all()
            return Seen(
                over=(await connection.execute(over)).scalars().all(),
                found=(await connection.execute(found)).scalars().all(),
                without_room=(await connection.execute(held)).scalars().all(),
                waiting=following,
                statuses={BatchStatus(row.status): row[1] for row in rows},
                done=sum(row[2] for row in rows),
            )

    async def request_cancel(self, campaign_id: UUID) -> None:
        """Note that somebody wants the campaign canceled. Carrying it out is the workflow's.

        Raises:
            CancelRefusedError: it was never submitted, or it is over.
        """
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            if row.sealed_at is None:
                reason = "it was never submitted, so there is nothing to cancel"
                raise CancelRefusedError(campaign_id, reason, what="campaign")
            if row.ended_at is not None:
                raise CancelRefusedError(campaign_id, f"it is over, with status {row.status}", what="campaign")
            wanted = func.coalesce(campaigns.c.cancel_requested_at, func.now())
            await self._change(connection, campaign_id, cancel_requested_at=wanted)

    async def stop(self, campaign_id: UUID, started: Collection[UUID], *, too_old: bool) -> list[UUID]:
        """Let nothing more be asked, because somebody said so or because max age has passed. The batches that were
        never started end here, and are returned until they have been brought to their end; the others are marked, for
        their workflows to cancel.
        """
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            if row.ended_at is None and row.cancel_requested_at is None:
                # Also what Temporal's own cancel asked for: another workflow of the campaign would not hear of it.
                why = {"failure_code": MAX_AGE_EXCEEDED} if too_old else {"cancel_requested_at": func.now()}
                await self._change(connection, campaign_id, **why)
            # In the same transaction: whoever starts one of them now finds that it is over, and sends nothing.
            await connection.execute(_ended_unsent(campaign_id, started, too_old=too_old))
            found = (await connection.execute(_waiting(campaign_id, started))).scalars().all()
            running = batches.c.campaign_id == campaign_id, batches.c.status.not_in(TERMINAL)
            wanted = func.coalesce(batches.c.cancel_requested_at, func.now())
            await connection.execute(
                update(batches).where(*running, batches.c.id.not_in(found)).values(cancel_requested_at=wanted)
            )
        return list(found)

    async def settle(self, campaign_id: UUID) -> Campaign:
        """All batches are over: the campaign gets its status. Doing it again changes nothing."""
        async with self._engine.begin() as connection:
            row = await lock_campaign(connection, campaign_id)
            if row.ended_at is None:
                ending = ending_of(
                    await parts_of(connection, campaign_id),
                    cancel_requested=row.cancel_requested_at is not None,
                    too_old=row.failure_code == MAX_AGE_EXCEEDED,
                )
                values = {"status": ending.status.value, "failure_code": ending.code, "failure_reason": ending.reason}
                await self._change(connection, campaign_id, ended_at=func.now(), **values)
        return await self.get(campaign_id)

    async def _change(self, connection: AsyncConnection, campaign_id: UUID, **values: object) -> None:
        await connection.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(**values))
