"""Campaigns in Postgres: filled into batches, asked again, read as a whole, stopped and settled."""

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from itertools import count
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchStatus, Outcome
from overnight.campaigns import Campaign
from overnight.errors import (
    BatchClosedError,
    BatchOpenError,
    BatchTakenOverError,
    DuplicateCustomIdError,
    OfCampaignError,
    RequestError,
    RetryRefusedError,
    UnknownCampaignError,
)
from overnight.ids import new_batch_id
from overnight.reading import campaign_entries
from overnight.storage.entries import NewEntry
from overnight.storage.store import Store
from tests.integration.campaign_rows import SHARE, filled, finish, new_campaign, new_campaign_row, plan
from tests.integration.rows import ROOM, all_rows, each, new_entry, some


async def ids_by_batch(store: Store, campaign_id: UUID) -> list[list[str]]:
    found = []
    for batch in await store.campaigns.batches(campaign_id):
        pages = [page async for page in store.entries.pages(batch.id)]
        found.append([line.custom_id for page in pages for line in page])
    return found


async def with_key(store: Store, campaign_id: UUID, token: UUID, count: int = 0) -> Campaign:
    await store.campaigns.create_by_key(new_campaign_row(id=campaign_id, filling_token=token))
    await store.filling.add(campaign_id, some(count), SHARE, filling_token=token)
    return await store.campaigns.get(campaign_id)


async def test_entries_fill_one_batch_after_the_other_and_are_numbered_throughout(store: Store) -> None:
    campaign_id = await filled(store, 6)
    await store.filling.add(campaign_id, some(4), SHARE)

    numbers = [f"Ask-{number}" for number in range(1, 11)]
    assert await ids_by_batch(store, campaign_id) == [numbers[:4], numbers[4:8], numbers[8:]]
    parts = await store.campaigns.batches(campaign_id)
    assert [part.entry_count for part in parts] == [4, 4, 2]
    assert [(part.number, part.round, part.campaign_id) for part in parts] == [
        (number, 1, campaign_id) for number in (1, 2, 3)
    ]
    assert (await store.campaigns.get(campaign_id)).entry_count == 10


async def test_bytes_end_a_batch_as_well_as_entries_and_what_fits_none_is_refused(store: Store) -> None:
    def requests(sizes: Iterable[int]) -> AsyncIterator[NewEntry]:
        return each(new_entry(request="x" * size) for size in sizes)

    campaign_id = await new_campaign(store)
    await store.filling.add(campaign_id, requests([400, 400, 400, 900]), SHARE)
    assert [part.entry_count for part in await store.campaigns.batches(campaign_id)] == [2, 1, 1]
    with pytest.raises(RequestError, match="Ask-6: it alone is larger"):
        await store.filling.add(campaign_id, requests([10, 2_000]), SHARE)
    assert (await store.campaigns.get(campaign_id)).entry_count == 4


@pytest.mark.parametrize("calls", [[[1, 2, 3, 4, 5, 1]], [[1, 2, 3, 4, 5], [6, 1]], [[1, 2, 3], [4, 5, 6, 7, 3]]])
async def test_a_custom_id_is_unique_in_the_whole_campaign(store: Store, calls: list[list[int]]) -> None:
    campaign_id = await new_campaign(store)
    *good, bad = calls
    for call in good:
        await store.filling.add(campaign_id, each(new_entry(f"own-{n}") for n in call), SHARE)
    with pytest.raises(DuplicateCustomIdError, match=f"own-{bad[-1]}.*in this campaign"):
        await store.filling.add(campaign_id, each(new_entry(f"own-{n}") for n in bad), SHARE)
    assert (await store.campaigns.get(campaign_id)).entry_count == sum(map(len, good))
    assert sum(map(len, await ids_by_batch(store, campaign_id))) == sum(map(len, good))


async def test_own_ids_may_not_look_like_numbers_that_were_given_before(store: Store) -> None:
    campaign_id = await filled(store, 5)
    with pytest.raises(DuplicateCustomIdError, match="Ask-2"):
        await store.filling.add(campaign_id, each([new_entry("Ask-2")]), SHARE)


async def test_a_sealed_campaign_and_a_batch_of_one_take_no_entries(store: Store) -> None:
    campaign_id = await filled(store, 2)
    (part,) = await store.campaigns.batches(campaign_id)
    with pytest.raises(OfCampaignError):
        await store.entries.add(part.id, some(1), ROOM)
    assert (await store.campaigns.seal(campaign_id))[1] is True
    assert (await store.campaigns.seal(campaign_id))[1] is False
    with pytest.raises(BatchClosedError, match="another campaign"):
        await store.filling.add(campaign_id, some(1), SHARE)
    with pytest.raises(UnknownCampaignError):
        await store.campaigns.get(new_batch_id())


async def test_a_round_holds_what_is_worth_another_try_once_however_often_it_is_planned(
    store: Store, engine: AsyncEngine
) -> None:
    campaign_id = await filled(store, 8)
    first, second = await store.campaigns.batches(campaign_id)
    await finish(store, first.id, {2: (Outcome.ERRORED, "http_500"), 3: (Outcome.ERRORED, "http_400")})
    await finish(store, second.id, {1: (Outcome.MISSING, None), 4: (Outcome.EXPIRED, "batch_expired")})

    assert await plan(store, campaign_id, 1) == (1, 3)
    assert await plan(store, campaign_id, 1) == (1, 3)
    *_, third = await store.campaigns.batches(campaign_id)
    assert (third.number, third.round, third.entry_count) == (3, 2, 3)
    assert (await ids_by_batch(store, campaign_id))[2] == ["Ask-2", "Ask-5", "Ask-8"]
    links = "select position, earlier_batch_id, earlier_position from overnight.attempts order by 1"
    assert await all_rows(engine, links) == [(1, first.id, 2), (2, second.id, 1), (3, second.id, 4)]

    await finish(store, third.id, {2: (Outcome.MISSING, None)})
    assert await plan(store, campaign_id, 2) == (1, 1)
    fourth = (await store.campaigns.batches(campaign_id))[-1]
    await finish(store, fourth.id, {})
    assert await plan(store, campaign_id, 3) == (0, 0)
    campaign = await store.campaigns.get(campaign_id)
    assert campaign.outcomes == {Outcome.SUCCEEDED: 7, Outcome.ERRORED: 1}
    assert (campaign.round, campaign.entry_count, campaign.asked_again) == (3, 8, 4)
    assert campaign.cost.billed == sum(part.cost.billed or 0 for part in await store.campaigns.batches(campaign_id))


async def test_reading_yields_each_entry_once_with_its_latest_attempt_and_those_before(store: Store) -> None:
    campaign_id = await new_campaign(store)
    raw = (new_entry(label="raw", task=None, fields=None) for _ in range(6))
    await store.filling.add(campaign_id, each(raw), SHARE)
    for after in (1, 2):
        for part in await store.campaigns.batches(campaign_id):
            if part.round == after:
                await finish(store, part.id, {1: (Outcome.ERRORED, "http_500")})
        await plan(store, campaign_id, after)
    await finish(store, (await store.campaigns.batches(campaign_id))[-1].id, {})

    entries = [entry async for entry in campaign_entries(store, campaign_id, None, None)]
    assert [entry.custom_id for entry in entries] == ["raw-2", "raw-3", "raw-4", "raw-6", "raw-5", "raw-1"]
    attempts = {entry.custom_id: [attempt.outcome for attempt in entry.attempts] for entry in entries}
    assert attempts["raw-1"] == [Outcome.ERRORED, Outcome.ERRORED, Outcome.SUCCEEDED]
    assert attempts["raw-5"] == [Outcome.ERRORED, Outcome.SUCCEEDED]
    assert attempts["raw-2"] == [Outcome.SUCCEEDED]
    assert [e async for e in campaign_entries(store, campaign_id, None, [Outcome.ERRORED])] == []


async def test_a_look_tells_what_is_over_what_comes_next_and_what_has_no_room(store: Store) -> None:
    campaign_id = await filled(store, 20)
    first, second, third, fourth, fifth = [part.id for part in await store.campaigns.batches(campaign_id)]
    await finish(store, first, {})
    for batch_id in (second, third):
        await store.batches.claim(batch_id, f"batch-{batch_id}")
    await store.batches.note_trouble(second, "token_limit_exceeded", urgent=False)

    seen = await store.campaigns.look(campaign_id, [first, second], limit=1)
    assert list(seen.over) == [first]
    assert list(seen.without_room) == [second]
    assert list(seen.found) == [third]
    assert list(seen.waiting) == [fourth]
    assert list((await store.campaigns.look(campaign_id, [fourth], limit=9)).waiting) == [fifth]


async def test_what_is_claimed_in_the_middle_of_a_look_is_not_overlooked(store: Store) -> None:
    campaign_id = await filled(store, 2)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    url = store._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def claim_elsewhere(*_: object) -> None:
        """By a child of an earlier workflow, between any two of the look's queries."""
        with psycopg.connect(url) as connection:
            connection.execute("update overnight.batches set workflow_id = 'batch-x' where id = %s", [part.id])

    async def looked(number: int) -> set[UUID]:
        await clear_claims(store, part.id)
        seen = count(1)
        listener = lambda *_: claim_elsewhere() if next(seen) == number else None  # noqa: E731
        event.listen(store._engine.sync_engine, "before_cursor_execute", listener)
        try:
            found = await store.campaigns.look(campaign_id, [], limit=9)
        finally:
            event.remove(store._engine.sync_engine, "before_cursor_execute", listener)
        return {*found.found, *found.waiting}

    assert [await looked(number) for number in range(1, 6)] == [{part.id}] * 5


async def clear_claims(store: Store, batch_id: UUID) -> None:
    async with store._engine.begin() as connection:
        await connection.execute(
            text("update overnight.batches set workflow_id = null where id = :id"), {"id": batch_id}
        )


async def test_a_campaign_that_was_too_dear_is_not_run_by_a_second_start(store: Store) -> None:
    campaign_id = await filled(store, 2)
    await store.campaigns.close(campaign_id, code="max_cost", reason="too dear")
    with pytest.raises(BatchClosedError):
        await store.campaigns.claim(campaign_id, "campaign-x")


async def test_no_batch_of_a_campaign_is_submitted_before_the_campaign(store: Store) -> None:
    campaign_id = await filled(store, 2)
    (part,) = await store.campaigns.batches(campaign_id)
    with pytest.raises(OfCampaignError):
        await store.batches.claim(part.id, "of-somebody")
    await store.campaigns.seal(campaign_id)
    assert (await store.batches.claim(part.id, f"batch-{part.id}")).sealed_at is not None


@pytest.mark.parametrize("how", ["asked", "canceled", "too_old", "over"])
async def test_nothing_is_asked_again_once_a_campaign_is_to_stop_or_is_over(store: Store, how: str) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {2: (Outcome.EXPIRED, "batch_expired")})
    match how:
        case "asked":
            await store.campaigns.request_cancel(campaign_id)
        case "over":
            await store.campaigns.settle(campaign_id)
        case _:
            await store.campaigns.stop(campaign_id, [], too_old=how == "too_old")
    assert await plan(store, campaign_id, 1) == (0, 0)
    assert [found.id for found in await store.campaigns.batches(campaign_id)] == [part.id]


async def test_a_stop_is_noted_for_whichever_workflow_comes_next_and_changes_nothing_that_is_over(
    store: Store,
) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    await store.campaigns.stop(campaign_id, [], too_old=False)
    assert (await store.campaigns.get(campaign_id)).cancel_requested_at is not None

    over = await filled(store, 4)
    await store.campaigns.claim(over, "campaign-y")
    (part,) = await store.campaigns.batches(over)
    await finish(store, part.id, {})
    settled = await store.campaigns.settle(over)
    for too_old in (False, True):
        await store.campaigns.stop(over, [], too_old=too_old)
    assert await store.campaigns.get(over) == settled


async def test_a_stop_marks_what_runs_and_names_what_was_never_sent_until_that_is_closed(store: Store) -> None:
    campaign_id = await filled(store, 12)
    await store.campaigns.claim(campaign_id, "campaign-x")
    first, second, third = [part.id for part in await store.campaigns.batches(campaign_id)]
    await store.batches.claim(first, f"batch-{first}")

    assert await store.campaigns.stop(campaign_id, [second], too_old=True) == [third]
    # A worker that dies before it has given outcomes leaves that to the next attempt.
    assert await store.campaigns.stop(campaign_id, [second], too_old=True) == [third]
    marked = [part.cancel_requested_at is not None for part in await store.campaigns.batches(campaign_id)]
    assert marked == [True, True, False]


async def test_what_a_stop_names_is_not_sent_any_more_by_whoever_claims_it_then(store: Store) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    await store.campaigns.stop(campaign_id, [], too_old=False)
    claimed = await store.batches.claim(part.id, f"batch-{part.id}")
    assert (claimed.status, claimed.failure_code) == (BatchStatus.CANCELED, "canceled")


async def test_a_batch_of_a_campaign_is_retried_when_that_is_over_without_what_a_round_asked_again(
    store: Store,
) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {1: (Outcome.ERRORED, "http_500"), 2: (Outcome.ERRORED, "http_400")})
    with pytest.raises(RetryRefusedError, match=f"campaign {campaign_id} is not over"):
        await store.retries.retry(part.id, new_batch_id(), [Outcome.ERRORED])
    assert await plan(store, campaign_id, 1) == (1, 1)
    await finish(store, (await store.campaigns.batches(campaign_id))[-1].id, {})
    await store.campaigns.settle(campaign_id)

    retry = new_batch_id()
    assert await store.retries.retry(part.id, retry, [Outcome.ERRORED]) == 1
    (page,) = [page async for page in store.entries.pages(retry)]
    assert [line.custom_id for line in page] == ["Ask-2"]


async def test_settling_again_changes_nothing(store: Store) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {})
    settled = await store.campaigns.settle(campaign_id)
    assert settled.status is BatchStatus.ENDED
    assert await store.campaigns.settle(campaign_id) == settled
    with pytest.raises(BatchClosedError):
        await store.campaigns.claim(campaign_id, "campaign-y")


async def test_no_batch_of_a_campaign_is_forgotten_before_the_campaigns_handler_has_run(store: Store) -> None:
    campaign_id = await filled(store, 4)
    await store.campaigns.claim(campaign_id, "campaign-x")
    (part,) = await store.campaigns.batches(campaign_id)
    with pytest.raises(BatchOpenError):
        await store.retention.erase(part.id)
    await finish(store, part.id, {})
    assert list(await store.retention.due(timedelta(0))) == []
    with pytest.raises(BatchOpenError):
        await store.retention.prune(part.id)

    async with store.dispatches.campaign_attempt(campaign_id) as dispatch:
        await dispatch.commit()
    assert list(await store.retention.due(timedelta(0))) == [part.id]
    await store.retention.prune(part.id)


async def test_a_round_that_somebody_objects_to_is_skipped_for_good_and_leaves_nothing(store: Store) -> None:
    campaign_id = await filled(store, 4)
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {2: (Outcome.EXPIRED, "batch_expired")})

    assert await plan(store, campaign_id, 1, "too dear") == (0, 0)
    # However prices are by then: what was said stays true.
    assert await plan(store, campaign_id, 1) == (0, 0)
    campaign = await store.campaigns.get(campaign_id)
    assert (campaign.round, campaign.asked_again, campaign.skipped_round) == (1, 0, "too dear")
    assert [found.id for found in await store.campaigns.batches(campaign_id)] == [part.id]


async def test_nothing_to_ask_again_is_nothing_to_object_to(store: Store) -> None:
    campaign_id = await filled(store, 2)
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {})
    assert await plan(store, campaign_id, 1, "too dear") == (0, 0)
    assert (await store.campaigns.get(campaign_id)).skipped_round is None


async def test_an_unsealed_campaign_of_a_key_is_made_anew_and_a_sealed_one_is_left_as_it_is(store: Store) -> None:
    kept, (zombie, successor, late) = new_batch_id(), (uuid4() for _ in range(3))
    await with_key(store, kept, zombie, 6)
    assert (await with_key(store, kept, successor, 2)).entry_count == 2
    assert await ids_by_batch(store, kept) == [["Ask-1", "Ask-2"]]
    with pytest.raises(BatchTakenOverError, match=f"Campaign {kept}"):
        await store.filling.add(kept, some(1), SHARE, filling_token=zombie)
    with pytest.raises(BatchTakenOverError):
        await store.campaigns.seal(kept, filling_token=zombie)

    assert (await store.campaigns.seal(kept, filling_token=successor))[1]
    sealed = await store.campaigns.create_by_key(new_campaign_row(id=kept, filling_token=late))
    assert (sealed.entry_count, sealed.sealed_at is not None) == (2, True)


async def test_entries_that_came_after_a_campaign_was_weighed_keep_it_open(store: Store) -> None:
    campaign_id = await filled(store, 3)
    campaign, closed = await store.campaigns.seal(campaign_id, entry_count=2)
    assert (campaign.sealed_at, closed) == (None, False)
    assert (await store.campaigns.seal(campaign_id, entry_count=3))[1]


async def test_what_a_campaigns_handler_said_is_forgotten_with_its_entries(store: Store) -> None:
    campaign_id = await filled(store, 2)
    (part,) = await store.campaigns.batches(campaign_id)
    await finish(store, part.id, {})
    await store.campaigns.record_error(campaign_id, "cannot digest: a prompt")
    async with store.dispatches.campaign_attempt(campaign_id) as dispatch:
        await dispatch.commit()
    await store.retention.prune(part.id)
    assert (await store.campaigns.get(campaign_id)).last_error is None
