from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchFilter, BatchStatus
from overnight.errors import AmbiguousBatchError, UnknownBatchError
from overnight.storage.store import Store
from tests.integration.rows import accepted, filled, new_batch, over


async def listed(store: Store, **wanted: Any) -> list[UUID]:
    return [batch.id for batch in await store.listings.page(BatchFilter(**wanted))]


async def test_the_newest_batches_come_first(store: Store) -> None:
    ids = [(await store.batches.create(new_batch())).id for _ in range(5)]
    assert [batch.id for batch in await store.listings.page(limit=3)] == ids[:1:-1]


async def test_each_filter_finds_its_batches(store: Store) -> None:
    plain = await filled(store)
    theirs = await filled(store, provider="anthropic", model="claude-haiku-4-5", handler="Save")
    child = await filled(store, parent_batch_id=plain)
    running, failed = await accepted(store), await over(store, status=BatchStatus.FAILED)

    assert await listed(store) == [failed, running, child, theirs, plain]
    assert await listed(store, provider="anthropic") == [theirs]
    assert await listed(store, model="claude-haiku-4-5") == [theirs]
    assert await listed(store, handler="Save") == [theirs]
    assert await listed(store, parent=plain) == [child]
    assert await listed(store, statuses=[BatchStatus.FAILED, BatchStatus.IN_PROGRESS]) == [failed, running]
    assert await listed(store, unfinished=True) == [failed, running]
    assert await listed(store, provider="anthropic", handler="Other") == []


async def test_batches_are_found_by_when_they_were_created(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    assert await listed(store, created_since=batch.created_at) == [batch.id]
    assert await listed(store, created_since=batch.created_at + timedelta(microseconds=1)) == []


async def test_pages_follow_each_other_also_where_batches_were_created_in_one_transaction(
    store: Store, engine: AsyncEngine
) -> None:
    ids = {(await store.batches.create(new_batch())).id for _ in range(7)}
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.batches set created_at = now()"))
    seen: list[UUID] = []
    while page := await store.listings.page(limit=3, before=seen[-1] if seen else None):
        seen += [batch.id for batch in page]
    assert len(seen) == 7
    assert set(seen) == ids


async def test_a_step_that_fails_needs_attention_until_it_succeeds(store: Store) -> None:
    batch_id = await accepted(store)
    assert await listed(store, needs_attention=True) == []
    await store.batches.note_trouble(batch_id, "invalid_api_key", urgent=True)
    assert await listed(store, needs_attention=True) == [batch_id]
    found = (await store.listings.page(BatchFilter(needs_attention=True)))[0]
    assert found.trouble_code == "invalid_api_key"
    assert found.trouble_since is not None
    await store.batches.clear_trouble(batch_id)
    assert await listed(store, needs_attention=True) == []


async def test_a_batch_that_was_sealed_and_never_begun_needs_attention(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    await store.batches.seal(batch_id)
    assert await listed(store, needs_attention=True) == []
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.batches set sealed_at = now() - interval '3 minutes'"))
    assert await listed(store, needs_attention=True) == [batch_id]


async def test_a_submission_in_doubt_needs_attention(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    await store.batches.claim(batch_id, "w")
    await store.submissions.current(batch_id)
    assert await listed(store, needs_attention=True) == []
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.submissions set doubted_at = now()"))
    assert await listed(store, needs_attention=True) == [batch_id]


async def test_several_batches_are_read_at_once_in_the_order_of_their_creation(store: Store) -> None:
    ids = [await filled(store) for _ in range(3)]
    assert [batch.id for batch in await store.listings.of(ids[:0:-1])] == ids[1:]
    assert await store.listings.of([UUID(int=1)]) == []


async def test_the_beginning_of_an_id_is_enough_where_it_is_of_one_batch(store: Store) -> None:
    one, other = UUID("01a201c2-3cab-730e-8aad-102fd31e8596"), UUID("01a201c2-3cab-730e-8aad-202fd31e8596")
    for batch_id in (one, other):
        await store.batches.create(replace(new_batch(), id=batch_id))
    assert await store.listings.resolve("01a201c2-3cab-730e-8aad-1") == one
    assert await store.listings.resolve("01A201C23CAB730E8AAD2") == other
    assert await store.listings.resolve(str(one)) == one
    with pytest.raises(AmbiguousBatchError, match=f"{one}, {other}"):
        await store.listings.resolve("01a2")
    with pytest.raises(UnknownBatchError, match="01a3"):
        await store.listings.resolve("01a3")


async def test_only_a_batch_that_was_not_handed_over_is_discarded(store: Store) -> None:
    batch_id = await filled(store)
    sealed = await filled(store)
    await store.batches.seal(sealed)
    assert [await store.batches.discard(each) for each in (batch_id, sealed, batch_id)] == [True, False, False]
    assert await listed(store) == [sealed]


async def test_lost_results_need_attention_also_when_all_is_over_until_they_are_asked_again_or_pruned(
    store: Store,
) -> None:
    again, pruned, theirs = [await forfeited(store) for _ in range(3)]
    assert await listed(store, needs_attention=True) == [theirs, pruned, again]
    assert (await store.vitals.read()).needing_attention == 3
    assert await listed(store, needs_attention=True, unfinished=True) == []

    await store.batches.create(new_batch(parent_batch_id=again))
    await store.retention.prune(pruned)
    assert await listed(store, needs_attention=True) == [theirs]


async def forfeited(store: Store) -> UUID:
    """A batch that is over and handled, and whose results nobody could read."""
    batch_id = await over(store)
    await store.results.give_up(batch_id)
    await store.results.finish(batch_id, price_version=None)
    await store.outputs.finish(batch_id)
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()
    return batch_id
