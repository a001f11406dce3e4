"""`run_handler` on a database of the test's own: what stays of a handler's effects, and what does not."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight import BatchHandler
from overnight.errors import UsageError
from overnight.testing import run_handler

INSERT, COUNT = text("insert into effects values (1)"), text("select count(*) from effects")


class Writes(BatchHandler, name="detached-writes"):
    async def on_completion(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(INSERT)

    async def on_success(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(INSERT)
        if self.batch.metadata.get("breaks"):
            raise LookupError("too late")

    async def on_failure(self) -> None:
        async with self.transaction() as connection:
            await connection.commit()


@pytest.fixture
async def effects(engine: AsyncEngine) -> AsyncEngine:
    """A database of the user's: it has the user's table, and nothing of ours is looked at."""
    async with engine.begin() as connection:
        await connection.execute(text("drop schema overnight cascade"))
        await connection.execute(text("create table effects (n int)"))
    return engine


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(COUNT)).scalar_one()


async def count_on(connection: AsyncConnection) -> int:
    return (await connection.execute(COUNT)).scalar_one()


async def test_on_an_engine_all_effects_are_committed_at_the_end(effects: AsyncEngine) -> None:
    run = await run_handler(Writes, database=effects)

    assert run.committed
    assert await count(effects) == 2


async def test_on_an_engine_nothing_remains_of_a_handler_that_raises(effects: AsyncEngine) -> None:
    with pytest.raises(LookupError):
        await run_handler(Writes, metadata={"breaks": True}, database=effects)

    assert await count(effects) == 0


async def test_a_commit_by_the_handler_itself_is_refused_as_in_a_worker(effects: AsyncEngine) -> None:
    with pytest.raises(UsageError, match=r"called commit\(\)"):
        await run_handler(Writes, status="expired", database=effects)

    assert await count(effects) == 0


async def test_on_a_connection_the_effects_are_a_part_of_the_tests_own_transaction(effects: AsyncEngine) -> None:
    async with effects.connect() as connection:
        run = await run_handler(Writes, database=connection)
        assert not run.committed
        assert await count_on(connection) == 2
        await connection.execute(INSERT)
        await connection.commit()

    assert await count(effects) == 3


async def test_on_a_connection_a_commit_by_the_handler_does_not_end_the_tests_transaction(
    effects: AsyncEngine,
) -> None:
    async with effects.connect() as connection:
        with pytest.raises(UsageError, match=r"called commit\(\)"):
            await run_handler(Writes, status="expired", database=connection)
        await connection.rollback()

    assert await count(effects) == 0


async def test_on_a_connection_nothing_remains_of_a_handler_that_raises_but_what_was_there(
    effects: AsyncEngine,
) -> None:
    async with effects.connect() as connection:
        await connection.execute(INSERT)
        with pytest.raises(LookupError):
            await run_handler(Writes, metadata={"breaks": True}, database=connection)
        assert await count_on(connection) == 1
