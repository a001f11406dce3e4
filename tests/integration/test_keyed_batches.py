"""Batches that are created by their key: found again by whoever runs the same code again, filled by one at a time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import Batch, BatchFilter, BatchStatus, Outcome
from overnight.errors import BatchClosedError, BatchTakenOverError, EmptyBatchError, RetryRefusedError
from overnight.ids import new_batch_id
from overnight.storage.batches import NewBatch
from overnight.storage.entries import NewEntry
from overnight.storage.store import Store
from tests.integration.rows import ROOM, accepted, block, filled, new_batch, new_entry, report, result, some

ID = new_batch_id()


def by_key(**more: Any) -> NewBatch:
    return new_batch(**{"id": ID, "filling_token": uuid4(), **more})


async def fill(store: Store, new: NewBatch, count: int) -> int:
    return await store.entries.add(new.id, some(count), ROOM, filling_token=new.filling_token)


async def seal(store: Store, new: NewBatch) -> tuple[Batch, bool]:
    return await store.batches.seal(new.id, filling_token=new.filling_token)


async def ids(store: Store) -> dict[str, int]:
    return {entry.custom_id: entry.position async for page in store.outputs.pages(ID) for entry in page}


async def test_an_unsealed_batch_is_emptied_and_made_anew_with_what_is_wanted_now(store: Store) -> None:
    first, second = by_key(), by_key(model="gpt-5.4-mini", metadata={"attempt": 2})
    await store.batches.create_by_key(first)
    await fill(store, first, 5)

    batch = await store.batches.create_by_key(second)
    await fill(store, second, 2)

    assert (batch.entry_count, batch.request_bytes) == (0, 0)
    assert (batch.model, batch.metadata) == ("gpt-5.4-mini", {"attempt": 2})
    assert await ids(store) == {"Ask-1": 1, "Ask-2": 2}


async def test_a_sealed_batch_is_left_as_it_is(store: Store) -> None:
    first, second = by_key(), by_key(model="gpt-5.4-mini")
    await store.batches.create_by_key(first)
    await fill(store, first, 5)
    sealed, was_first = await seal(store, first)

    assert was_first
    assert await store.batches.create_by_key(second) == sealed
    with pytest.raises(BatchClosedError):
        await fill(store, second, 1)
    assert await seal(store, second) == (sealed, False)


async def test_a_batch_that_comes_with_its_entries_is_made_anew_until_it_is_sealed(store: Store) -> None:
    first, second, third = by_key(), by_key(), by_key()
    for new, count in ((first, 5), (second, 2)):
        await store.entries.create_filled(new, some(count), ROOM)
    with pytest.raises(BatchTakenOverError):
        await seal(store, first)
    assert not await store.batches.discard(ID, filling_token=first.filling_token)
    sealed, _ = await seal(store, second)

    await store.entries.create_filled(third, some(7), ROOM)

    assert await store.batches.get(ID) == sealed
    assert sealed.entry_count == 2


async def test_who_was_taken_for_dead_can_neither_add_to_nor_seal_what_another_one_fills(store: Store) -> None:
    zombie, successor = by_key(), by_key()
    await store.batches.create_by_key(zombie)
    await fill(store, zombie, 3)
    await store.batches.create_by_key(successor)
    await fill(store, successor, 2)

    with pytest.raises(BatchTakenOverError, match=str(ID)):
        await fill(store, zombie, 1)
    with pytest.raises(BatchTakenOverError, match=str(ID)):
        await seal(store, zombie)

    await fill(store, successor, 2)
    sealed, was_first = await seal(store, successor)
    assert was_first
    assert sealed.entry_count == 4


async def test_a_batch_is_not_taken_over_in_the_middle_of_an_add(store: Store) -> None:
    slow, quick = by_key(), by_key()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[NewEntry]:
        yield new_entry()
        begun.set()
        await go_on.wait()
        yield new_entry()

    await store.batches.create_by_key(slow)
    adding = asyncio.create_task(store.entries.add(ID, slowly(), ROOM, filling_token=slow.filling_token))
    await begun.wait()
    taking_over = asyncio.create_task(store.batches.create_by_key(quick))
    done, _ = await asyncio.wait([taking_over], timeout=0.2)
    go_on.set()

    assert done == set()
    assert await adding == 2
    assert (await taking_over).entry_count == 0
    assert await ids(store) == {}


async def test_of_two_that_create_it_at_once_one_may_fill_it(store: Store) -> None:
    both = [by_key(), by_key()]
    await asyncio.gather(*(store.batches.create_by_key(new) for new in both))

    answers = await asyncio.gather(*(fill(store, new, 1) for new in both), return_exceptions=True)

    assert sorted(map(str, map(type, answers))) == sorted(map(str, [int, BatchTakenOverError]))
    assert (await store.batches.get(ID)).entry_count == 1


async def test_many_that_make_it_anew_at_once_all_find_it(store: Store, engine: AsyncEngine) -> None:
    await store.batches.create_by_key(by_key())
    async with engine.begin() as connection:
        await connection.execute(text("select from overnight.batches for update"))
        making = [asyncio.create_task(store.batches.create_by_key(by_key())) for _ in range(4)]
        await asyncio.wait(making, timeout=0.3)  # all of them wait for the row now
    assert {batch.id for batch in await asyncio.gather(*making)} == {ID}


async def test_an_empty_one_cannot_be_sealed(store: Store) -> None:
    new = by_key()
    await store.batches.create_by_key(new)
    with pytest.raises(EmptyBatchError):
        await seal(store, new)


async def test_the_batches_of_a_parent_are_found(store: Store) -> None:
    parents = [await filled(store), await filled(store)]
    children = [(await store.batches.create_by_key(by_key(id=uuid4(), parent_batch_id=one))).id for one in parents]

    async def of(parent: UUID | None) -> list[UUID]:
        return [batch.id for batch in await store.listings.page(BatchFilter(parent=parent), limit=10)]

    assert await of(parents[0]) == [children[0]]
    assert await of(children[0]) == []
    assert sorted(await of(None)) == sorted([*parents, *children])


async def failed(store: Store) -> UUID:
    """A batch with a key, all of whose entries failed."""
    batch_id = await accepted(store, filling_token=uuid4())
    await store.batches.record_report(batch_id, report(BatchStatus.ENDED, provider_batch_id=f"provider-{batch_id}"))
    errors = [result(number, outcome=Outcome.ERRORED) for number in (1, 2, 3)]
    await store.results.write(batch_id, block(errors, to=10))
    await store.results.finish(batch_id, price_version="v")
    await store.outputs.finish(batch_id)
    return batch_id


async def test_the_key_of_one_batchs_retry_does_not_swallow_anothers(store: Store) -> None:
    one, other, kept = await failed(store), await failed(store), uuid4()
    assert await store.retries.retry(one, kept, [Outcome.ERRORED], filling_token=uuid4()) == 3
    await store.batches.seal(kept)
    assert await store.retries.retry(one, kept, [Outcome.ERRORED], filling_token=uuid4()) == 0
    with pytest.raises(RetryRefusedError, match="its own key"):
        await store.retries.retry(other, kept, [Outcome.ERRORED], filling_token=uuid4())


async def test_a_retry_of_a_batch_with_a_key_is_a_batch_of_its_own_that_anybody_may_fill(store: Store) -> None:
    batch_id, again = await failed(store), new_batch_id()
    assert await store.retries.retry(batch_id, again, [Outcome.ERRORED]) == 3
    assert (await store.batches.seal(again))[1]
