"""Forgetting: texts go, numbers stay, and nothing that is in flight is touched."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.errors import BatchOpenError, UnknownBatchError
from overnight.ids import new_batch_id
from overnight.storage import retention
from overnight.storage.answers import Verdict
from overnight.storage.results import Stray
from overnight.storage.store import Store
from tests.integration.rows import COST, all_rows, block, filled, over, result

SECRET = "the-secret"


async def handled(store: Store, *, count: int = 3) -> UUID:
    """A batch that is over, with a text in every column that takes one."""
    batch_id = await over(store, count)
    results = [result(position, line=f'{{"text":"{SECRET}"}}', reason=SECRET) for position in range(1, count + 1)]
    stray = Stray(number=9, kind="malformed", custom_id=None, line=SECRET.encode())
    await store.results.write(batch_id, block(results, to=10, strays=[stray]))
    await store.results.finish(batch_id, price_version="v")
    verdicts = [Verdict(position=position, output=f'"{SECRET}"') for position in range(1, count + 1)]
    await store.outputs.write(batch_id, verdicts, before=0, after=count)
    await store.outputs.finish(batch_id)
    await store.batches.record_error(batch_id, SECRET)
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()
    return batch_id


async def everything(engine: AsyncEngine) -> str:
    tables = ("batches", "entries", "results", "outputs", "stray_results", "submissions")
    rows = [await all_rows(engine, f"select t::text from overnight.{table} t") for table in tables]
    strays = await all_rows(engine, "select convert_from(line, 'utf8') from overnight.stray_results")
    return str([*rows, strays])


async def test_pruning_deletes_every_text_and_keeps_every_number(
    store: Store, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    batch_id = await handled(store)
    before = await store.batches.get(batch_id)
    assert SECRET in await everything(engine)

    assert await store.retention.prune(batch_id) == 3

    assert SECRET not in await everything(engine)
    assert await all_rows(engine, "select distinct request, fields::text from overnight.entries") == [("", None)]
    after = await store.batches.get(batch_id)
    assert after.pruned_at is not None
    assert (after.outcomes, after.usage, after.cost) == (before.outcomes, before.usage, before.cost)
    (page,) = [page async for page in store.outputs.pages(batch_id)]
    assert [(entry.custom_id, entry.cost, entry.output) for entry in page] == [
        (f"Ask-{number}", COST, None) for number in (1, 2, 3)
    ]


async def test_only_what_was_handled_long_enough_ago_is_due_and_only_once(store: Store, engine: AsyncEngine) -> None:
    old, _young = await handled(store), await handled(store)
    await over(store)
    async with engine.begin() as connection:
        query = "update overnight.batches set handler_dispatched_at = now() - interval '31 days' where id = :id"
        await connection.execute(text(query), {"id": old})

    assert await store.retention.due(timedelta(days=30)) == [old]
    await store.retention.prune(old)
    assert await store.retention.due(timedelta(days=30)) == []


async def test_erasing_leaves_nothing_but_numbers_and_dates(store: Store, engine: AsyncEngine) -> None:
    batch_id = await handled(store)
    before = await store.batches.get(batch_id)
    await store.retention.erase(batch_id)

    for table in ("entries", "results", "outputs", "stray_results"):
        assert await all_rows(engine, f"select 1 from overnight.{table}") == []
    after = await store.batches.get(batch_id)
    assert (after.metadata, after.last_error, after.failure_reason) == ({}, None, None)
    assert (after.entry_count, after.outcomes, after.cost) == (before.entry_count, before.outcomes, before.cost)


async def test_what_is_in_flight_is_not_forgotten(store: Store, engine: AsyncEngine) -> None:
    batch_id = await over(store)
    for forget in (store.retention.prune, store.retention.erase):
        with pytest.raises(BatchOpenError, match=f"overnight cancel {batch_id}"):
            await forget(batch_id)
    assert await all_rows(engine, "select count(*) from overnight.entries where request <> ''") == [(3,)]


async def test_what_was_never_submitted_can_be_erased(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    with pytest.raises(BatchOpenError):
        await store.retention.prune(batch_id)  # it could still be submitted, and would be empty
    await store.retention.erase(batch_id)
    assert await all_rows(engine, "select 1 from overnight.entries") == []
    with pytest.raises(UnknownBatchError):
        await store.batches.get(batch_id)


async def test_a_batch_that_does_not_exist_is_said_to(store: Store) -> None:
    with pytest.raises(UnknownBatchError):
        await store.retention.erase(new_batch_id())


async def test_a_stopped_run_goes_on_where_it_stopped(
    store: Store, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    batch_id = await handled(store)
    async with engine.begin() as connection:
        await retention._forget_texts(connection, batch_id, 1, 3)
    assert (await store.batches.get(batch_id)).pruned_at is None
    await store.retention.prune(batch_id)
    assert SECRET not in await everything(engine)
