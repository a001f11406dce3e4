import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from overnight.errors import UsageError
from overnight.storage.dispatches import AlreadyDispatchedError, Dispatch
from overnight.storage.store import Store
from tests.integration.rows import all_rows, over


@pytest.fixture(autouse=True)
async def _effects(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("create table effects (name text primary key)"))


@pytest.fixture
async def batch_id(store: Store) -> AsyncIterator[UUID]:
    """After the test every connection must be back in the pool, and nobody may hold a lock."""
    batch_id = await over(store)
    yield batch_id
    assert store._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        await store.batches.record_error(batch_id, "not locked")


async def effects(engine: AsyncEngine) -> list[str]:
    return [row[0] for row in await all_rows(engine, "select name from effects order by name")]


async def write(connection: AsyncConnection, name: str) -> None:
    await connection.execute(text("insert into effects values (:name)"), {"name": name})


async def is_dispatched(store: Store, batch_id: UUID) -> bool:
    return (await store.batches.get(batch_id)).handler_dispatched_at is not None


async def test_effects_and_stamp_commit_together(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch:
        async with dispatch.transaction() as connection:
            await write(connection, "a")
        async with dispatch.transaction() as connection:
            await write(connection, "b")
        assert await effects(engine) == []
        assert not await is_dispatched(store, batch_id)
        await dispatch.commit()
    assert await effects(engine) == ["a", "b"]
    assert await is_dispatched(store, batch_id)


async def test_without_a_commit_nothing_remains(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction() as connection:
        await write(connection, "a")
    assert await effects(engine) == []
    assert not await is_dispatched(store, batch_id)


async def failing(store: Store, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction() as connection:
        await write(connection, "a")
        raise LookupError


async def test_a_handler_that_raises_leaves_nothing_and_can_run_again(
    store: Store, engine: AsyncEngine, batch_id: UUID
) -> None:
    for _ in range(25):  # more often than the pool has connections
        with pytest.raises(LookupError):
            await failing(store, batch_id)
    async with store.dispatches.attempt(batch_id) as dispatch:
        async with dispatch.transaction() as connection:
            await write(connection, "a")
        await dispatch.commit()
    assert await effects(engine) == ["a"]


async def test_a_handler_without_effects_is_stamped_too(store: Store, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()
    assert await is_dispatched(store, batch_id)


async def test_of_many_attempts_at_once_one_has_effects(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    async def attempt(number: int) -> None:
        async with store.dispatches.attempt(batch_id) as dispatch:
            async with dispatch.transaction() as connection:
                await write(connection, f"attempt {number}")
                await asyncio.sleep(0.01)
            await dispatch.commit()

    found = await asyncio.gather(*(attempt(number) for number in range(8)), return_exceptions=True)
    assert sum(isinstance(error, AlreadyDispatchedError) for error in found) == 7
    assert len(await effects(engine)) == 1


async def test_a_second_attempt_learns_that_it_came_too_late(store: Store, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()
    async with store.dispatches.attempt(batch_id) as dispatch:
        with pytest.raises(AlreadyDispatchedError):
            async with dispatch.transaction():
                pytest.fail("it must not come this far")
        with pytest.raises(AlreadyDispatchedError):
            await dispatch.commit()


async def both(dispatch: Dispatch, one: str, two: str) -> None:
    async with dispatch.transaction() as connection:
        await write(connection, one)
        await write(connection, two)


async def test_an_inner_block_that_fails_is_undone_alone(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch:
        async with dispatch.transaction() as outer:
            await write(outer, "before")
            with pytest.raises(IntegrityError):
                await both(dispatch, "inner", "before")
            async with dispatch.transaction() as inner:
                assert inner is outer
                await write(inner, "after")
        await dispatch.commit()
    assert await effects(engine) == ["after", "before"]


async def test_tasks_of_a_handler_take_turns_in_its_transaction(
    store: Store, engine: AsyncEngine, batch_id: UUID
) -> None:
    async def effect(dispatch: Dispatch, name: str) -> None:
        async with dispatch.transaction() as connection:
            await write(connection, name)
            await asyncio.sleep(0)
            async with dispatch.transaction() as inner:
                await write(inner, f"{name}, inner")
            if name == "b":
                raise LookupError

    async with asyncio.timeout(60), store.dispatches.attempt(batch_id) as dispatch:
        found = await asyncio.gather(*(effect(dispatch, name) for name in "abc"), return_exceptions=True)
        await dispatch.commit()
    assert [type(error) for error in found] == [type(None), LookupError, type(None)]
    assert await effects(engine) == ["a", "a, inner", "c", "c, inner"]


async def committing(store: Store, batch_id: UUID) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction() as connection:
        await write(connection, "too early")
        await connection.commit()


async def test_a_handler_cannot_commit_before_the_stamp(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    with pytest.raises(UsageError, match=r"called commit\(\)"):
        await committing(store, batch_id)
    assert await effects(engine) == []
    assert not await is_dispatched(store, batch_id)


async def test_a_handler_that_rolls_everything_back_and_lost_its_lock_is_not_stamped_twice(
    store: Store, engine: AsyncEngine, batch_id: UUID
) -> None:
    async with store.dispatches.attempt(batch_id) as dispatch:
        async with dispatch.transaction() as connection:
            await connection.rollback()
        async with store.dispatches.attempt(batch_id) as faster:
            await faster.commit()
        async with dispatch.transaction() as connection:
            await write(connection, "of the slower one")
        with pytest.raises(AlreadyDispatchedError):
            await dispatch.commit()
    assert await effects(engine) == []


async def test_a_cancelled_handler_gives_its_lock_back(store: Store, engine: AsyncEngine, batch_id: UUID) -> None:
    written = asyncio.Event()

    async def handle() -> None:
        async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction() as connection:
            await write(connection, "a")
            written.set()
            await connection.execute(text("select pg_sleep(60)"))

    running = asyncio.create_task(handle())
    await written.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await effects(engine) == []


async def test_an_attempt_that_is_cancelled_while_it_waits_for_the_lock_leaves_nothing(
    store: Store, batch_id: UUID
) -> None:
    async def wait_for_it() -> None:
        async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction():
            pytest.fail("the lock is taken")

    async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction():
        waiting = asyncio.create_task(wait_for_it())
        await asyncio.wait([waiting], timeout=0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
