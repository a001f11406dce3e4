"""The transaction in which a handler's effects and the stamp that it has run commit together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from uuid import UUID

from sqlalchemy import event, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.errors import OvernightError, UsageError
from overnight.storage.tables import batches

Connection = AsyncConnection
"""What a handler writes its own tables with: SQLAlchemy's asynchronous connection."""


class AlreadyDispatchedError(OvernightError):
    """The handler has run to its end already, here or elsewhere; its effects stand and must not be repeated."""


_inside: ContextVar["Dispatch | None"] = ContextVar("overnight_dispatch", default=None)
"""The attempt whose transaction the present task is in, which a further block of it then is a part of."""


class Dispatch:
    """One attempt to run a handler.

    The transaction opens at the first use, takes the batch's row lock, and looks whether the handler has run: a
    second attempt at the same time waits there, and then learns that it came too late. It commits with the stamp
    when the whole handler is done, and not before.
    """

    def __init__(self, engine: AsyncEngine, batch_id: UUID) -> None:
        self._engine, self._batch_id = engine, batch_id
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
        query = select(batches.c.handler_dispatched_at).where(batches.c.id == self._batch_id)
        if (await connection.execute(query.with_for_update(key_share=True))).scalar_one() is not None:
            raise AlreadyDispatchedError(f"The handler of batch {self._batch_id} has run already.")

    def _check_commit(self, _: object) -> None:
        if not self._may_commit:
            raise UsageError(
                f"The handler of batch {self._batch_id} called commit(). Its transaction commits by itself, together "
                f"with the note that it has run; leave the call out."
            )

    async def commit(self) -> None:
        """Stamp the batch and make the handler's effects permanent, both or neither.

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
            update(batches)
            .where(batches.c.id == self._batch_id, batches.c.handler_dispatched_at.is_(None))
            .values(handler_dispatched_at=func.now())
        )
        if stamped.rowcount != 1:  # the lock is gone if the handler rolled the whole transaction back
            raise AlreadyDispatchedError(f"The handler of batch {self._batch_id} has run already.")

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
        """Begin an attempt; without a `commit` nothing of it remains."""
        dispatch = Dispatch(self._engine, batch_id)
        try:
            yield dispatch
        finally:
            await dispatch.aclose()
