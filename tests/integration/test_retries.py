import asyncio
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import RETRIED, BatchStatus, Outcome
from overnight.errors import BatchTakenOverError, RetryRefusedError, UnknownBatchError
from overnight.ids import new_batch_id
from overnight.storage import retries
from overnight.storage.store import Store
from tests.integration.rows import ROOM, all_rows, block, each, filled, new_batch, new_entry, over, result

OUTCOMES = [Outcome.SUCCEEDED, Outcome.ERRORED, Outcome.INVALID, Outcome.EXPIRED, Outcome.CANCELED]


async def finished(store: Store, outcomes: Collection[Outcome] = OUTCOMES, extra: int = 1) -> UUID:
    """A batch whose entries have these outcomes; the last ones have no line, and are `missing`."""
    batch_id = await over(store, len(outcomes) + extra)
    results = [result(position, outcome=outcome) for position, outcome in enumerate(outcomes, start=1)]
    await store.results.write(batch_id, block(results, to=9))
    await store.results.finish(batch_id, price_version="v")
    await store.outputs.finish(batch_id)
    return batch_id


async def retried(store: Store, batch_id: UUID, outcomes: Collection[Outcome] = RETRIED) -> UUID:
    new_id = new_batch_id()
    await store.retries.retry(batch_id, new_id, outcomes)
    return new_id


async def ids_of(store: Store, batch_id: UUID) -> Mapping[str, int]:
    return {entry.custom_id: entry.position async for page in store.outputs.pages(batch_id) for entry in page}


async def test_what_was_not_answered_is_retried_with_its_custom_ids(store: Store) -> None:
    new_id = await retried(store, await finished(store))
    assert await ids_of(store, new_id) == {"Ask-2": 1, "Ask-4": 2, "Ask-5": 3, "Ask-6": 4}


async def test_other_outcomes_are_retried_when_asked_for(store: Store) -> None:
    batch_id = await finished(store)
    assert await ids_of(store, await retried(store, batch_id, [Outcome.INVALID])) == {"Ask-3": 1}


async def test_everything_that_was_chosen_for_the_batch_holds_for_its_retry(store: Store, engine: AsyncEngine) -> None:
    batch_id = await finished(store)
    async with engine.begin() as connection:
        chosen = "handler = 'Save', handler_task_queue = 'q', max_cost = 5, on_ambiguous_submit = 'fail'"
        await connection.execute(text(f"update overnight.batches set {chosen}"))
    old, new = await store.batches.get(batch_id), await store.batches.get(await retried(store, batch_id))
    for name in ("provider", "model", "endpoint", "handler", "handler_task_queue", "max_cost", "metadata", "schedule"):
        assert getattr(new, name) == getattr(old, name), name
    assert new.on_ambiguous_submit == old.on_ambiguous_submit
    assert (new.parent_batch_id, new.status, new.sealed_at) == (batch_id, BatchStatus.PENDING, None)
    assert (new.outcomes, new.provider_batch_id, new.workflow_id) == ({}, None, None)


async def test_a_retry_has_the_requests_and_knows_their_number_and_size(store: Store, engine: AsyncEngine) -> None:
    batch_id = await finished(store, [Outcome.SUCCEEDED], extra=2)
    new = await store.batches.get(await retried(store, batch_id))
    query = "select custom_id, task, fields::text, request from overnight.entries where batch_id = :id and position > 1"
    assert await all_rows(engine, query, id=batch_id) == [
        ("Ask-2", "Ask", "{}", '{"q":1}'),
        ("Ask-3", "Ask", "{}", '{"q":1}'),
    ]
    query = query.replace("position > 1", "position > 0")
    assert await all_rows(engine, query, id=new.id) == [
        ("Ask-2", "Ask", "{}", '{"q":1}'),
        ("Ask-3", "Ask", "{}", '{"q":1}'),
    ]
    assert (new.entry_count, new.request_bytes) == (2, 2 * (len("Ask-2") + len('{"q":1}')))


async def test_bytes_and_not_characters_are_counted(store: Store) -> None:
    new = new_batch()
    await store.entries.create_filled(new, each([new_entry("a", request='{"q":"é"}')]), ROOM)
    old = await store.batches.get(new.id)
    await store.batches.close(new.id, BatchStatus.FAILED, code="c", reason="r")
    await store.results.finish(new.id, price_version="v")
    await store.outputs.finish(new.id)
    assert (await store.batches.get(await retried(store, new.id))).request_bytes == old.request_bytes


async def test_a_second_retry_of_the_same_entries_is_refused_and_names_the_first(store: Store) -> None:
    batch_id = await finished(store)
    first = await retried(store, batch_id, [Outcome.ERRORED])
    with pytest.raises(RetryRefusedError, match=f"batch {first} retries its entries already"):
        await retried(store, batch_id, [Outcome.ERRORED])
    assert await ids_of(store, await retried(store, batch_id)) == {"Ask-4": 1, "Ask-5": 2, "Ask-6": 3}


async def test_retries_at_the_same_time_do_not_take_the_same_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = retries._copy

    async def slow_copy(*arguments: Any) -> tuple[int, int]:
        copied = await copy(*arguments)
        await asyncio.sleep(0.2)  # so that the others have begun, and nothing is committed yet
        return copied

    monkeypatch.setattr(retries, "_copy", slow_copy)
    batch_id = await finished(store)
    answers = await asyncio.gather(*(retried(store, batch_id) for _ in range(4)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["RetryRefusedError"] * 3 + ["UUID"]


async def test_a_child_that_asks_something_else_under_the_same_id_does_not_count(store: Store) -> None:
    batch_id = await finished(store, [Outcome.ERRORED], extra=0)
    child = new_batch(parent_batch_id=batch_id)
    await store.entries.create_filled(child, each([new_entry("Ask-1", request='{"q":2}')]), ROOM)
    assert await ids_of(store, await retried(store, batch_id)) == {"Ask-1": 1}


async def test_a_retry_whose_texts_were_pruned_keeps_its_entries_from_being_paid_again(store: Store) -> None:
    batch_id = await finished(store, [Outcome.ERRORED], extra=0)
    child = await retried(store, batch_id)
    await store.batches.close(child, BatchStatus.ENDED, code="c", reason="r")
    await store.results.finish(child, price_version="v")
    await store.outputs.finish(child)
    async with store.dispatches.attempt(child) as dispatch:
        await dispatch.commit()
    await store.retention.prune(child)
    with pytest.raises(RetryRefusedError, match=f"batch {child} retries its entries already"):
        await retried(store, batch_id)


async def test_what_failed_in_a_retry_is_retried_from_there(store: Store) -> None:
    first = await retried(store, await finished(store))
    await store.batches.close(first, BatchStatus.FAILED, code="c", reason="r")
    await store.results.finish(first, price_version="v")
    await store.outputs.finish(first)
    assert len(await ids_of(store, await retried(store, first))) == 4


async def test_a_batch_of_successes_has_nothing_to_retry(store: Store, engine: AsyncEngine) -> None:
    batch_id = await finished(store, [Outcome.SUCCEEDED], extra=0)
    with pytest.raises(RetryRefusedError, match="none of its entries is canceled or errored or expired or missing"):
        await retried(store, batch_id)
    assert await all_rows(engine, "select count(*) from overnight.batches") == [(1,)]


async def test_a_batch_that_is_not_over_is_refused_and_so_is_one_without_outcomes(store: Store) -> None:
    for batch_id, status in ((await filled(store), "pending"), (await over(store), "ended")):
        with pytest.raises(RetryRefusedError, match=f"not over, with status {status}"):
            await retried(store, batch_id)


async def test_a_batch_whose_requests_were_deleted_is_refused(store: Store, engine: AsyncEngine) -> None:
    batch_id = await finished(store)
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.batches set handler_dispatched_at = now()"))
    await store.retention.prune(batch_id)
    with pytest.raises(RetryRefusedError, match="its requests were deleted"):
        await retried(store, batch_id)


async def test_an_unknown_batch_is_named(store: Store) -> None:
    batch_id = new_batch_id()
    with pytest.raises(UnknownBatchError, match=str(batch_id)):
        await retried(store, batch_id)


async def test_a_handler_that_holds_its_batch_can_have_it_retried(store: Store, engine: AsyncEngine) -> None:
    batch_id = await finished(store)
    async with engine.begin() as connection:
        await connection.execute(text("select 1 from overnight.batches for no key update"))
        async with asyncio.timeout(10):
            assert await retried(store, batch_id)


async def test_a_retry_of_a_key_is_made_once_and_made_anew_where_it_was_not_submitted(store: Store) -> None:
    batch_id, kept, (first, second, third) = await finished(store), new_batch_id(), (uuid4() for _ in range(3))
    assert await store.retries.retry(batch_id, kept, RETRIED, filling_token=first) == 4
    # The run died before its submit. Without a key the entries would be taken, and nobody would have them asked.
    assert await store.retries.retry(batch_id, kept, RETRIED, filling_token=second) == 4
    with pytest.raises(BatchTakenOverError):
        await store.batches.seal(kept, filling_token=first)
    assert (await store.batches.seal(kept, filling_token=second))[1]

    assert await store.retries.retry(batch_id, kept, RETRIED, filling_token=third) == 0
    assert (await store.batches.get(kept)).entry_count == 4
    with pytest.raises(RetryRefusedError, match=str(kept)):
        await store.retries.retry(batch_id, new_batch_id(), RETRIED, filling_token=uuid4())
