"""Rows of `submissions`: what was sent to a provider, what may have been sent, and who may send."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, Row, and_, case, cast, func, insert, null, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.batches import Batch, BatchStatus
from overnight.errors import OvernightError
from overnight.ids import submission_token
from overnight.log_events import LogEvent
from overnight.providers.base import ProviderReport, Submission
from overnight.storage.batches import lock_batch, read_batch, write_report
from overnight.storage.database import autocommitting
from overnight.storage.tables import batches, submissions

logger = logging.getLogger(__name__)

# Each holds a connection for as long as it sends, and needs another one now and then: fewer than the pool has.
_AT_ONCE = 6


class SubmissionBusyError(OvernightError):
    """Another process is handing this batch over right now; whatever it achieves will be in the database."""


class SubmissionDoubtedError(OvernightError):
    """Another process took this attempt for dead and looks for what it made; it must not complete any more."""


_IN_DOUBT = and_(
    submissions.c.abandoned_at.is_not(None),
    submissions.c.started_at.is_not(None),
    submissions.c.resolved_at.is_(None),
)


def _open(batch_id: UUID) -> ColumnElement[bool]:
    return and_(submissions.c.batch_id == batch_id, submissions.c.abandoned_at.is_(None))


def _as_sent(submission: Submission) -> tuple[ColumnElement[bool], ...]:
    """The open submission, as long as its newest create is the one that this attempt has sent."""
    own = submissions.c.number == submission.number, submissions.c.started_at == submission.started_at
    return _open(submission.batch_id), *own


def _submission(batch: Batch, row: Row[Any]) -> Submission:
    return Submission(
        batch_id=batch.id,
        number=row.number,
        token=row.token,
        model=batch.model,
        endpoint=batch.endpoint,
        entry_count=batch.entry_count,
        request_bytes=batch.request_bytes,
        file_id=row.file_id,
        marker=row.marker,
        started_at=row.started_at,
    )


class SubmissionStore:
    """Submissions of batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._autocommit = engine, autocommitting(engine)
        self._rights = asyncio.Semaphore(_AT_ONCE)

    async def current(self, batch_id: UUID) -> Submission:
        """The batch's open submission, which is made when there is none."""
        async with self._autocommit.connect() as connection:
            batch, row = await read_batch(connection, batch_id), await self._find_open(connection, batch_id)
            if row is not None:
                return _submission(batch, row)
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            row = await self._find_open(connection, batch_id)
            if row is None:
                await self._insert(connection, batch)
                row = await self._find_open(connection, batch_id)
            assert row is not None
            return _submission(batch, row)

    async def _find_open(self, connection: AsyncConnection, batch_id: UUID) -> Row[Any] | None:
        return (await connection.execute(select(submissions).where(_open(batch_id)))).one_or_none()

    async def _insert(self, connection: AsyncConnection, batch: Batch) -> None:
        batch_id = batch.id
        newest = select(func.coalesce(func.max(submissions.c.number), 0)).where(submissions.c.batch_id == batch_id)
        number = (await connection.execute(newest)).scalar_one() + 1
        # What a submission in doubt has uploaded serves the next one as well.
        file_id = select(func.max(submissions.c.file_id)).where(submissions.c.batch_id == batch_id, _IN_DOUBT)
        values = {
            "batch_id": batch_id,
            "number": number,
            "token": submission_token(batch_id, batch.created_at, number),
            "file_id": file_id.scalar_subquery(),
        }
        await connection.execute(insert(submissions).values(values))

    @asynccontextmanager
    async def alone(self, batch_id: UUID) -> AsyncIterator[None]:
        """Hold the right to hand this batch over: one process at a time, let go by Postgres when the process dies.

        Raises:
            SubmissionBusyError: another process holds it.
        """
        key = {"key": f"overnight:submit:{batch_id}"}
        async with self._rights, self._engine.connect() as connection:
            # In autocommit no transaction stays open for as long as an upload takes.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            taken = await connection.execute(text("select pg_try_advisory_lock(hashtextextended(:key, 0))"), key)
            if not taken.scalar_one():
                raise SubmissionBusyError(f"Batch {batch_id} is being submitted by another process.")
            try:
                yield
            finally:
                await connection.execute(text("select pg_advisory_unlock(hashtextextended(:key, 0))"), key)

    async def _change(self, batch_id: UUID, **values: object) -> None:
        async with self._autocommit.connect() as connection:
            await connection.execute(update(submissions).where(_open(batch_id)).values(**values))

    async def record_upload(self, batch_id: UUID, file_id: str) -> None:
        """The input is at the provider; it is never uploaded again for this submission."""
        await self._change(batch_id, file_id=file_id)

    async def record_intent(self, batch_id: UUID, marker: str | None) -> Submission:
        """From now on a provider batch may exist, whatever we hear.

        The marker is that of the first of several creates whose answers were lost: a later one could be the very batch
        that is looked for.
        """
        first = case((submissions.c.started_at.is_(None), marker), else_=submissions.c.marker)
        await self._change(batch_id, started_at=func.now(), marker=first, doubted_at=null())
        return await self.current(batch_id)

    async def withdraw_intent(self, submission: Submission) -> None:
        """The provider refused this create: no batch exists, and the next one needs no search. An intent that another
        process has recorded since stands.
        """
        async with self._engine.begin() as connection:
            await connection.execute(
                update(submissions).where(*_as_sent(submission)).values(started_at=null(), doubted_at=null())
            )

    async def doubt(self, batch_id: UUID) -> timedelta:
        """Note that an earlier create may have made a batch, and return for how long that has been so."""
        since = func.coalesce(submissions.c.doubted_at, func.now())
        async with self._engine.begin() as connection:
            row = await connection.execute(
                update(submissions)
                .where(_open(batch_id))
                .values(doubted_at=since)
                .returning(cast(func.now() - submissions.c.doubted_at, Interval))
            )
            age: timedelta = row.scalar_one()
        return age

    async def check_undoubted(self, submission: Submission) -> None:
        """The last look before the last bytes of a create leave: nobody must be searching for its batch already.

        Raises:
            SubmissionDoubtedError: somebody does, or this submission is not the open one any more.
        """
        query = select(submissions.c.started_at).where(*_as_sent(submission), submissions.c.doubted_at.is_(None))
        async with self._autocommit.connect() as connection:
            if (await connection.execute(query)).one_or_none() is None:
                raise SubmissionDoubtedError(f"Batch {submission.batch_id}: this attempt to create it was given up.")

    async def accept(self, batch_id: UUID, report: ProviderReport, *, number: int | None = None) -> Batch:
        """The provider has the batch, under this id. Of two ids the first stays: the returned batch says which.

        Args:
            batch_id: which batch.
            report: what the provider says of it.
            number: of the submission that made it, by default the open one. What one made that was let go meanwhile is
                an orphan: its lines carry another token than those that are waited for.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if not await self._may_become(connection, batch, report, number):
                logger.error(
                    "batch %s: is %s, not %s",
                    batch_id,
                    batch.provider_batch_id,
                    report.provider_batch_id,
                    extra={"event": LogEvent.PROVIDER_BATCH_UNOWNED},
                )
                return batch
            await connection.execute(
                update(submissions)
                .where(_open(batch_id))
                .values(accepted_at=func.now(), provider_batch_id=report.provider_batch_id)
            )
            await connection.execute(
                update(batches)
                .where(batches.c.id == batch_id)
                .values(
                    provider_batch_id=report.provider_batch_id,
                    submitted_at=func.coalesce(batches.c.submitted_at, func.now()),
                )
            )
            return await write_report(connection, batch_id, report)

    async def _may_become(
        self, connection: AsyncConnection, batch: Batch, report: ProviderReport, number: int | None
    ) -> bool:
        """Whether the locked batch is this one at the provider, or is to become what this submission makes."""
        if batch.provider_batch_id is not None:
            return batch.provider_batch_id == report.provider_batch_id
        row = await self._find_open(connection, batch.id)
        return number is None or (row is not None and row.number == number)

    async def send_back(self, batch_id: UUID, report: ProviderReport, *, number: int = 0) -> Batch:
        """The provider had no room for the batch: it becomes `pending` again, to be submitted later. Whoever says so
        late, of what is not the batch's any more, changes nothing.

        Args:
            batch_id: which batch.
            report: what the provider says of it.
            number: of the submission that made it, where that was not accepted before.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.status.is_terminal or not await self._may_become(connection, batch, report, number):
                return batch
            await connection.execute(
                update(submissions)
                .where(_open(batch_id))
                .values(
                    provider_batch_id=report.provider_batch_id,
                    accepted_at=func.coalesce(submissions.c.accepted_at, func.now()),
                    abandoned_at=func.now(),
                    resolved_at=func.now(),
                )
            )
            await connection.execute(
                update(batches)
                .where(batches.c.id == batch_id)
                .values(status=BatchStatus.PENDING.value, provider_batch_id=null(), submitted_at=null())
            )
            return await lock_batch(connection, batch_id)

    async def suspect(self, batch_id: UUID, *, since: datetime | None = None) -> bool:
        """Take it that a provider batch may exist, although nothing is written of it: this database was restored to an
        earlier moment. The next create searches first, as far back as the batch can have been sent: by default to when
        it was sealed. Says whether there was anything to suspect.
        """
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
            if batch.sealed_at is None or batch.provider_batch_id is not None or batch.status.is_terminal:
                return False
            if await self._find_open(connection, batch_id) is None:
                await self._insert(connection, batch)
            # No marker: what it names could be younger than what is looked for.
            values = {"started_at": since or batch.sealed_at, "marker": null(), "doubted_at": null()}
            await connection.execute(update(submissions).where(_open(batch_id)).values(values))
        return True

    async def abandon(self, batch_id: UUID) -> None:
        """Let go of a submission that cannot be resolved now. What it may have made is still looked for."""
        await self._change(batch_id, abandoned_at=func.now())

    async def batches_in_doubt(self) -> list[UUID]:
        """Batches with submissions that were let go and may have made a provider batch that nobody owns."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(submissions.c.batch_id).where(_IN_DOUBT).distinct())
            return list(found.scalars())

    async def in_doubt(self, batch_id: UUID) -> list[Submission]:
        """Those submissions of one batch."""
        query = select(submissions).where(submissions.c.batch_id == batch_id, _IN_DOUBT)
        async with self._autocommit.connect() as connection:
            rows = (await connection.execute(query)).all()
            if not rows:
                return []
        async with self._engine.begin() as connection:
            batch = await lock_batch(connection, batch_id)
        return [_submission(batch, row) for row in rows]

    async def in_doubt_beside(self, batch: Batch) -> list[UUID]:
        """Those among them that a workflow of this batch looks after: itself, and a few of the same provider that are
        over and done, and so have no workflow any more.
        """
        own = submissions.c.batch_id == batch.id
        query = (
            select(submissions.c.batch_id)
            .join(batches)
            .where(
                batches.c.provider == batch.provider, or_(own, batches.c.handler_dispatched_at.is_not(None)), _IN_DOUBT
            )
            .group_by(submissions.c.batch_id)
            .order_by(own.desc())
        )
        async with self._autocommit.connect() as connection:
            return list((await connection.execute(query.limit(10))).scalars())

    async def resolve(self, submission: Submission, provider_batch_id: str | None) -> bool:
        """It is known now what an abandoned submission made: nothing, or a batch that is being canceled. Says whether
        this call was the one that made it known.
        """
        async with self._engine.begin() as connection:
            resolved = await connection.execute(
                update(submissions)
                .where(
                    submissions.c.batch_id == submission.batch_id,
                    submissions.c.number == submission.number,
                    submissions.c.resolved_at.is_(None),
                )
                .values(resolved_at=func.now(), provider_batch_id=provider_batch_id)
            )
        return resolved.rowcount == 1

    async def was_sent_back(self, batch_id: UUID, provider_batch_id: str | None) -> bool:
        """Whether this is what the provider had no room for the last time, and nothing was sent since."""
        if provider_batch_id is None:
            return False
        newest = select(func.max(submissions.c.number)).where(submissions.c.batch_id == batch_id).scalar_subquery()
        query = select(submissions.c.number).where(
            submissions.c.batch_id == batch_id,
            submissions.c.number == newest,
            submissions.c.resolved_at.is_not(None),
            submissions.c.provider_batch_id == provider_batch_id,
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).one_or_none() is not None

    async def sent_back(self, batch_id: UUID) -> int:
        """How often the provider took the batch and then had no room for it."""
        was_sent_back = submissions.c.abandoned_at.is_not(None), submissions.c.accepted_at.is_not(None)
        query = select(func.count()).select_from(submissions).where(submissions.c.batch_id == batch_id, *was_sent_back)
        async with self._engine.connect() as connection:
            count: int = (await connection.execute(query)).scalar_one()
        return count

    async def had_orphans(self, batch_id: UUID) -> bool:
        """Whether a submission that was let go turned out to have made a provider batch, which was canceled, and may
        be billed for what it had done by then.
        """
        orphaned = submissions.c.accepted_at.is_(None), submissions.c.resolved_at.is_not(None)
        found = submissions.c.batch_id == batch_id, submissions.c.provider_batch_id.is_not(None)
        async with self._autocommit.connect() as connection:
            query = select(submissions.c.number).where(*found, *orphaned).limit(1)
            return (await connection.execute(query)).one_or_none() is not None

    async def files_in_use(self, batch_id: UUID) -> set[str]:
        """Uploads that the provider reads for this batch. What never became a batch is not in use."""
        used = submissions.c.file_id.is_not(None), submissions.c.provider_batch_id.is_not(None)
        query = select(submissions.c.file_id).where(_open(batch_id), *used)
        async with self._engine.connect() as connection:
            return set((await connection.execute(query)).scalars())

    async def claimed(self, provider: str) -> set[str]:
        """Provider batches that are accounted for, as far back as adoption may look: never candidates for it."""
        owned = (
            select(batches.c.created_at, batches.c.provider_batch_id)
            .where(batches.c.provider == provider, batches.c.provider_batch_id.is_not(None))
            .union_all(
                select(submissions.c.created_at, submissions.c.provider_batch_id)
                .join(batches)
                .where(batches.c.provider == provider, submissions.c.provider_batch_id.is_not(None))
            )
            .subquery()
        )
        recent = select(owned.c.provider_batch_id).order_by(owned.c.created_at.desc()).limit(20_000)
        async with self._engine.connect() as connection:
            return set((await connection.execute(recent)).scalars())
