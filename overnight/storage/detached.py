"""The dispatch transaction of a batch that is in no database, for tests of handlers.

What a handler may and may not do in its transaction is decided by the code that decides it in a worker; only the row of
the batch, with its lock and its stamp, is not there.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from overnight.errors import UsageError
from overnight.storage.dispatches import Connection, Dispatch


class DetachedDispatch(Protocol):
    """One run of a handler, on whatever database a test has."""

    is_permanent: bool
    """Whether `commit` makes what was written stay."""

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """The transaction of the handler's effects."""
        ...

    async def commit(self) -> None:
        """The handler has run to its end."""
        ...

    async def aclose(self) -> None:
        """Undo what was not committed, and let go of the database."""
        ...


def detached_dispatch(database: object | None, batch_id: UUID) -> DetachedDispatch:
    """The transaction on an engine, on a connection, on a stand-in for one, or on nothing."""
    match database:
        case None:
            return _OnNothing()
        case AsyncEngine():
            return _OnEngine(database, batch_id)
        case AsyncConnection():
            return _OnConnection(database, batch_id)
        case _:
            return _OnStandIn(database)


class _OnEngine(Dispatch):
    is_permanent = True

    async def _lock(self, connection: AsyncConnection) -> None:
        """There is no row to lock."""

    async def _stamp(self, connection: AsyncConnection) -> None:
        """Nor one to stamp."""


class _OnConnection(_OnEngine):
    """The outer transaction is the test's own: all that happens here is a part of it, and lasts as long as it does."""

    is_permanent = False

    def __init__(self, connection: AsyncConnection, batch_id: UUID) -> None:
        super().__init__(connection.engine, batch_id)
        self._given = connection
        self._whole: AsyncTransaction | None = None

    async def _open(self) -> AsyncConnection:
        self._whole = await self._given.begin_nested()
        event.listen(self._given.sync_connection, "commit", self._check_commit)
        self._connection = self._given
        return self._given

    async def commit(self) -> None:
        if self._whole is not None:
            await self._whole.commit()

    async def aclose(self) -> None:
        if self._whole is None:
            return
        event.remove(self._given.sync_connection, "commit", self._check_commit)
        if self._whole.is_active:
            await self._whole.rollback()


class _OnStandIn:
    is_permanent = False

    def __init__(self, given: object) -> None:
        self._given = given

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        yield cast("Any", self._given)

    async def commit(self) -> None:
        """What that means is the stand-in's business."""

    async def aclose(self) -> None:
        """It is the test's own."""


class _OnNothing:
    is_permanent = False

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        raise UsageError(
            "The handler opened `self.transaction()`, and this test has no database for it. Pass one, as in "
            "run_handler(..., database=engine): SQLAlchemy's asynchronous engine or connection, or an object of your "
            "own that has the methods which the handler calls."
        )

    async def commit(self) -> None:
        """There is nothing to commit."""

    async def aclose(self) -> None:
        """Nor to undo."""
