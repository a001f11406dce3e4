"""The transaction in which a handler's effects and the stamp that it has run commit together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.errors import OvernightError
from overnight.storage.tables import batches

Connection = AsyncConnection
"""What a handler writes its own tables with: SQLAlchemy's asynchronous connection."""


class AlreadyDispatchedError(OvernightError):
    """The handler has run to its end already, here or elsewhere; its effects stand and must not be repeated."""


class Dispatch:
    """One attempt to run a handler.

    The transaction opens at the first use, takes the batch's row lock, and looks whether the handler has run: a
    second attempt at the same time waits there, and then learns that it came too late. It commits with the stamp
    when the whole handler is done, and not before.
    """

    def __init__(self, engine: AsyncEngine, batch_id: UUID) -> None:
        self._engine, self._batch_id = engine, batch_id
        self._connection: AsyncConnection | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """The dispatch transaction; each use joins the same one.

        Raises:
            AlreadyDispatchedError: the handler has run already.
        """
        connection = self._connection or await self._open()
        async with connection.begin_nested():
            yield connection

    async def _open(self) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            await self._lock(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def _lock(self, connection: AsyncConnection) -> None:
        query = select(batches.c.handler_dispatched_at).where(batches.c.id == self._batch_id).with_for_update()
        if (await connection.execute(query)).scalar_one() is not None:
            raise AlreadyDispatchedError(f"The handler of batch {self._batch_id} has run already.")

    async def commit(self) -> None:
        """Stamp the batch and make the handler's effects permanent, both or neither."""
        async with self.transaction() as connection:
            await connection.execute(
                update(batches).where(batches.c.id == self._batch_id).values(handler_dispatched_at=func.now())
            )
        assert self._connection is not None
        await self._connection.commit()

    async def aclose(self) -> None:
        """Give the connection back; what was not committed is rolled back."""
        if self._connection is not None:
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
