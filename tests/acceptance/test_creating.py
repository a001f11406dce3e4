"""What a batch is before it is submitted, and what its table refuses to hold."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from overnight import BatchHandler, BatchStatus, Overnight, RawRequest
from overnight.batches import TERMINAL, Progress
from overnight.errors import BatchClosedError
from overnight.storage.store import Store
from tests.acceptance.stage import MODELS, AtTheProvider, Weigh
from tests.integration.rows import filled, over


class Keep(BatchHandler, name="acceptance-keep"):
    pass


async def test_the_table_holds_no_batch_without_provider_model_and_a_known_status(store: Store) -> None:
    await filled(store)

    for change in ("provider = null", "model = null", "endpoint = null", "status = null", "status = 'completed'"):
        with pytest.raises(DBAPIError, match=r"violates (not-null|check) constraint"):
            await changed(store, change)


async def changed(store: Store, change: str) -> None:
    async with store._engine.begin() as connection:
        await connection.execute(text(f"update overnight.batches set {change}"))


@pytest.mark.parametrize("provider", MODELS)
async def test_a_batch_begins_pending_and_with_nothing_in_it_but_what_was_asked_for(
    overnight: Overnight, account: AtTheProvider, provider: str
) -> None:
    plain = await (await overnight.create_batch(provider=provider, model=MODELS[provider])).get()
    metadata = {"creator": "user 7"}
    batch = await overnight.create_batch(provider=provider, model=MODELS[provider], handler=Keep, metadata=metadata)
    chosen = await batch.get()

    for found in (plain, chosen):
        assert (found.provider, found.model, found.status) == (provider, MODELS[provider], BatchStatus.PENDING)
        assert not found.status.is_terminal
        assert (found.provider_details, found.progress, found.outcomes) == ({}, Progress(), {})
        assert (found.provider_batch_id, found.submitted_at, found.entry_count) == (None, None, 0)
    assert (plain.handler, plain.metadata) == (None, {})
    assert (chosen.handler, chosen.metadata) == ("acceptance-keep", metadata)
    assert not await account.calls()


async def test_a_task_that_is_added_twice_makes_two_entries(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    task = Weigh(text="the same")

    await batch.add(task)
    await batch.add(task)

    entries = [entry async for entry in batch.entries(Weigh)]
    assert [entry.task for entry in entries] == [task, task]
    assert len({entry.custom_id for entry in entries}) == 2


async def test_entries_of_a_task_are_found_among_those_of_others_and_raw_requests(overnight: Overnight) -> None:
    class Other(Weigh, name="acceptance-other"):
        pass

    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", endpoint="/v1/responses")
    raw = RawRequest(body={"model": "gpt-5.4-mini", "input": "Hello."})
    await batch.add_all([Weigh(text="a"), Other(text="b"), raw, Weigh(text="c")])

    assert [entry.task.text async for entry in batch.entries(Weigh)] == ["a", "c"]
    assert [entry.task.text async for entry in batch.entries(Other)] == ["b"]
    assert [entry.task is None async for entry in batch.entries()] == [False, False, True, False]


async def test_a_batch_that_is_over_cannot_be_submitted(
    overnight: Overnight, store: Store, account: AtTheProvider
) -> None:
    for status in sorted(TERMINAL):
        batch = overnight.batch(await over(store, status=status))
        with pytest.raises(BatchClosedError):
            await batch.submit()
        assert (await batch.get()).status is status

    assert not await account.calls()
