"""The transaction in which a handler's effects and the stamp that it has run commit together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from uuid import UUID

from sqlalchemy import Table, event, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.errors import OvernightError, UsageError
from overnight.storage.tables import batches, campaigns

Connection = AsyncConnection
"""What a handler writes its own tables with: SQLAlchemy's asynchronous connection."""


class AlreadyDispatchedError(OvernightError):
    """The handler has run to its end already, here or elsewhere; its effects stand and must not be repeated."""


_inside: ContextVar["Dispatch | None"] = ContextVar("overnight_dispatch", default=None)
"""The attempt whose transaction the present task is in, which a further block of it then is a part of."""


class Dispatch:
    """One attempt to run a handler.

    The transaction opens at the first use, takes the lock of the batch's or campaign's row, and looks whether the
    handler has run: a second attempt at the same time waits there, and then learns that it came too late. It commits
    with the stamp when the whole handler is done, and not before.
    """

    def __init__(self, engine: AsyncEngine, row_id: UUID, table: Table = batches) -> None:
        self._engine, self._table, self._row_id = engine, table, row_id
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._may_commit = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """The dispatch transaction; each use joins the same one.

        Raises:
            AlreadyDispatchedError: the handler has run already.
        """
        if _inside.get() is self:
            async with self._savepoint() as connection:
                yield connection
            return
        # Tasks of one handler take turns: savepoints of one connection cannot overlap, and two connections would wait
        # for each other's lock for ever.
        async with self._turn:
            token = _inside.set(self)
            try:
                async with self._savepoint() as connection:
                    yield connection
            finally:
                _inside.reset(token)

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[AsyncConnection]:
        connection = self._connection or await self._open()
        async with connection.begin_nested():
            yield connection

    async def _open(self) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            await self._lock(connection)
            event.listen(connection.sync_connection, "commit", self._check_commit)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def _lock(self, connection: AsyncConnection) -> None:
        known = self._table.c
        query = select(known.handler_dispatched_at).where(known.id == self._row_id)
        if (await connection.execute(query.with_for_update(key_share=True))).scalar_one() is not None:
            raise self._too_late()

    def _check_commit(self, _: object) -> None:
        if not self._may_commit:
            raise UsageError(
                f"The handler of {self._row_id} called commit(). Its transaction commits by itself, together "
                f"with the note that it has run; leave the call out."
            )

    async def commit(self) -> None:
        """Stamp the row and make the handler's effects permanent, both or neither.

        Raises:
            AlreadyDispatchedError: the handler has run already.
        """
        async with self.transaction() as connection:
            await self._stamp(connection)
        assert self._connection is not None
        self._may_commit = True
        await self._connection.commit()

    async def _stamp(self, connection: AsyncConnection) -> None:
        stamped = await connection.execute(
            update(self._table)
            .where(self._table.c.id == self._row_id, self._table.c.handler_dispatched_at.is_(None))
            .values(handler_dispatched_at=func.now())
        )
        if stamped.rowcount != 1:  # the lock is gone if the handler rolled the whole transaction back
            raise self._too_late()

    def _too_late(self) -> AlreadyDispatchedError:
        return AlreadyDispatchedError(f"The handler of {self._row_id} has run already.")

    async def aclose(self) -> None:
        """Let go of the connection; what was not committed is rolled back."""
        if self._connection is not None:
            if not self._may_commit:
                # A failed handler can have left it in any state, so the pool does not get it back.
                await self._connection.invalidate()
            await self._connection.close()


class DispatchStore:
    """Runs of handlers."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def attempt(self, batch_id: UUID) -> AsyncIterator[Dispatch]:
        """Begin an attempt for a batch; without a `commit` nothing of it remains."""
        async with self._attempt(batches, batch_id) as dispatch:
            yield dispatch

    @asynccontextmanager
    async def campaign_attempt(self, campaign_id: UUID) -> AsyncIterator[Dispatch]:
        """The same for a campaign."""
        async with self._attempt(campaigns, campaign_id) as dispatch:
            yield dispatch

    @asynccontextmanager
    async def _attempt(self, table: Table, row_id: UUID) -> AsyncIterator[Dispatch]:
        dispatch = Dispatch(self._engine, row_id, table)
        try:
            yield dispatch
        finally:
            await dispatch.aclose()
