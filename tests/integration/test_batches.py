import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import TERMINAL, BatchStatus, Progress
from overnight.errors import BatchClosedError, CancelRefusedError, EmptyBatchError, UnknownBatchError
from overnight.ids import new_batch_id
from overnight.storage.batches import MAX_AGE_EXCEEDED
from overnight.storage.entries import NewEntry
from overnight.storage.store import Store
from tests.integration.rows import ROOM, accepted, all_rows, filled, new_batch, new_entry, over, report, said

ENDS = sorted(TERMINAL)


async def test_a_new_batch_is_pending_and_knows_what_was_chosen(store: Store) -> None:
    new = new_batch(handler="Save", handler_task_queue="theirs", metadata={"a": ["\u2028", None, 1.5]})
    batch = await store.batches.create(new)
    assert batch == await store.batches.get(new.id)
    assert (batch.status, batch.schedule, batch.metadata) == (BatchStatus.PENDING, new.schedule, new.metadata)
    assert (batch.handler, batch.handler_task_queue, batch.model) == ("Save", "theirs", "gpt-4o-mini")
    assert (batch.sealed_at, batch.submitted_at, batch.ended_at, batch.outcomes) == (None, None, None, {})
    assert batch.created_at.utcoffset() == timedelta(0)


async def test_an_unknown_batch_is_named(store: Store) -> None:
    batch_id = new_batch_id()
    for ask in (store.batches.get, store.batches.seal, store.batches.request_cancel, store.submissions.current):
        with pytest.raises(UnknownBatchError, match=str(batch_id)):
            await ask(batch_id)


# Sealing and claiming.


async def test_of_many_seals_exactly_one_is_the_first(store: Store) -> None:
    batch_id = await filled(store)
    sealed = await asyncio.gather(*(store.batches.seal(batch_id) for _ in range(8)))
    assert sorted(first for _, first in sealed) == [False] * 7 + [True]
    assert len({batch.sealed_at for batch, _ in sealed}) == 1


async def test_an_empty_batch_can_be_neither_sealed_nor_claimed(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    with pytest.raises(EmptyBatchError, match=str(batch.id)):
        await store.batches.seal(batch.id)
    with pytest.raises(EmptyBatchError):
        await store.batches.claim(batch.id, "w")
    assert (await store.batches.get(batch.id)).sealed_at is None


async def test_a_batch_belongs_to_the_workflow_that_claims_it_first(store: Store) -> None:
    batch_id = await filled(store)
    claims = [store.batches.claim(batch_id, f"w-{number % 4}") for number in range(8)]
    found = await asyncio.gather(*claims, return_exceptions=True)
    winners = {batch.workflow_id for batch in found if not isinstance(batch, BaseException)}
    assert winners == {(await store.batches.get(batch_id)).workflow_id}
    losers = [error for error in found if isinstance(error, BaseException)]
    assert len(losers) == 6
    assert all(isinstance(error, BatchClosedError) for error in losers)


# Submissions.


async def test_a_batch_has_one_open_submission_however_many_ask(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    found = await asyncio.gather(*(store.submissions.current(batch_id) for _ in range(8)))
    assert len({submission.token for submission in found}) == 1
    assert (found[0].entry_count, found[0].file_id, found[0].started_at) == (3, None, None)
    assert len(found[0].token) == 8
    assert set(found[0].token) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    insert = "insert into overnight.submissions (batch_id, number, token) values ('{}', 2, 'zzzzzzzz')"
    with pytest.raises(IntegrityError, match="submissions_open_key"):
        await all_rows(engine, insert.format(batch_id))


async def test_two_batches_have_two_tokens(store: Store) -> None:
    tokens = {(await store.submissions.current(await filled(store))).token for _ in range(5)}
    assert len(tokens) == 5


async def test_an_upload_is_remembered(store: Store) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    await store.submissions.record_upload(batch_id, "file-1")
    assert (await store.submissions.current(batch_id)).file_id == "file-1"


async def test_an_intent_keeps_the_marker_of_the_first_create_and_the_time_of_the_last(store: Store) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    await store.submissions.record_intent(batch_id, None)
    first = await store.submissions.current(batch_id)
    await store.submissions.record_intent(batch_id, "maybe-our-own")
    second = await store.submissions.current(batch_id)
    assert (first.marker, second.marker) == (None, None)
    assert first.started_at is not None
    assert second.started_at is not None
    assert second.started_at > first.started_at


async def test_a_withdrawn_intent_needs_no_search_and_the_next_one_begins_anew(store: Store) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    await store.submissions.withdraw_intent(await store.submissions.record_intent(batch_id, "old"))
    assert (await store.submissions.current(batch_id)).started_at is None
    await store.submissions.record_intent(batch_id, "new")
    assert (await store.submissions.current(batch_id)).marker == "new"


async def test_an_acceptance_makes_the_batch_the_providers(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    told = report(BatchStatus.SUBMITTED, details={"output_file_id": "f"}, progress=Progress(total=3, done=1, failed=1))
    batch = await store.submissions.accept(batch_id, told)
    assert (batch.status, batch.provider_batch_id) == (BatchStatus.SUBMITTED, "provider-1")
    assert (batch.provider_details, batch.progress) == (told.details, told.progress)
    rows = await all_rows(engine, "select provider_batch_id, accepted_at is not null from overnight.submissions")
    assert rows == [("provider-1", True)]
    again = await store.submissions.accept(batch_id, report(BatchStatus.IN_PROGRESS))
    assert (again.status, again.submitted_at) == (BatchStatus.IN_PROGRESS, batch.submitted_at)


async def test_a_second_provider_batch_never_takes_the_place_of_the_first(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    reports = [report(provider_batch_id=f"provider-{number}") for number in range(6)]
    found = await asyncio.gather(*(store.submissions.accept(batch_id, one) for one in reports))
    assert len({batch.provider_batch_id for batch in found}) == 1
    rows = await all_rows(
        engine, "select b.provider_batch_id = s.provider_batch_id from overnight.batches b, overnight.submissions s"
    )
    assert rows == [(True,)]
    ended = report(BatchStatus.ENDED, provider_batch_id="provider-other")
    assert (await store.submissions.accept(batch_id, ended)).status is BatchStatus.IN_PROGRESS


async def test_a_provider_batch_belongs_to_one_batch_of_ours(store: Store) -> None:
    one, two = await filled(store), await filled(store)
    elsewhere = await filled(store, provider="anthropic")
    await store.submissions.accept(one, report())
    with pytest.raises(IntegrityError, match="batches_provider_provider_batch_id_key"):
        await store.submissions.accept(two, report())
    assert (await store.batches.get(two)).provider_batch_id is None
    await store.submissions.accept(elsewhere, report())
    assert await store.submissions.claimed("openai") == {"provider-1"}


async def test_a_refusal_that_comes_late_withdraws_no_later_intent(store: Store) -> None:
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    zombie = await store.submissions.record_intent(batch_id, None)
    await store.submissions.abandon(batch_id)
    await store.submissions.current(batch_id)
    successor = await store.submissions.record_intent(batch_id, None)

    await store.submissions.withdraw_intent(zombie)

    assert await store.submissions.current(batch_id) == successor


async def test_what_a_submission_made_that_was_let_go_is_not_taken_for_its_successors(store: Store) -> None:
    batch_id = await filled(store)
    zombie = await store.submissions.current(batch_id)
    await store.submissions.abandon(batch_id)
    await store.submissions.current(batch_id)
    assert (await store.submissions.accept(batch_id, report(), number=zombie.number)).provider_batch_id is None
    mine = report(provider_batch_id="mine")
    assert (await store.submissions.accept(batch_id, mine)).provider_batch_id == "mine"


async def sent_back(store: Store) -> UUID:
    """A batch that the provider took as `full` and then had no room for."""
    batch_id = await filled(store)
    await store.submissions.current(batch_id)
    await store.submissions.accept(batch_id, report(provider_batch_id="full"))
    await store.submissions.send_back(batch_id, report(BatchStatus.FAILED, provider_batch_id="full"))
    return batch_id


async def test_who_comes_late_with_a_full_queue_does_not_let_go_of_what_was_created_since(store: Store) -> None:
    batch_id = await sent_back(store)
    await store.submissions.current(batch_id)
    second = await store.submissions.record_intent(batch_id, None)
    full = report(BatchStatus.FAILED, provider_batch_id="full")
    assert (await store.submissions.send_back(batch_id, full)).provider_batch_id is None
    assert await store.submissions.current(batch_id) == second
    await store.submissions.accept(batch_id, report(provider_batch_id="taken"))

    late = await store.submissions.send_back(batch_id, full)

    assert (late.status, late.provider_batch_id) == (BatchStatus.IN_PROGRESS, "taken")
    assert await store.submissions.current(batch_id) == second
    assert await store.submissions.sent_back(batch_id) == 1


async def test_a_late_word_on_what_was_sent_back_says_nothing_of_the_batch(store: Store) -> None:
    batch_id = await sent_back(store)
    late = report(BatchStatus.FAILED, provider_batch_id="full", failure_code="token_limit_exceeded")
    assert (await store.batches.record_report(batch_id, late)).status is BatchStatus.PENDING
    await store.submissions.current(batch_id)
    await store.submissions.accept(batch_id, report(provider_batch_id="taken"))
    assert (await store.batches.record_report(batch_id, late)).status is BatchStatus.IN_PROGRESS


# The first terminal status wins.


@pytest.mark.parametrize(("first", "second"), list(permutations(ENDS, 2)))
async def test_the_first_terminal_status_wins(store: Store, first: BatchStatus, second: BatchStatus) -> None:
    batch_id = await accepted(store)
    won = await store.batches.record_report(batch_id, said(batch_id, first, failure_code="c", failure_reason="r"))
    assert won.ended_at is not None
    assert await store.batches.record_report(batch_id, said(batch_id, second)) == won
    assert await store.batches.record_report(batch_id, said(batch_id, BatchStatus.IN_PROGRESS)) == won
    assert await store.batches.close(batch_id, second, code="late", reason="late") == won
    assert await store.batches.give_up(batch_id, "late") == won


async def test_the_first_terminal_status_wins_among_many_at_once(store: Store) -> None:
    for _ in range(5):
        batch_id = await accepted(store)
        changes = [store.batches.record_report(batch_id, said(batch_id, status)) for status in ENDS]
        changes += [store.batches.close(batch_id, status, code="c", reason="r") for status in ENDS]
        found = await asyncio.gather(*changes)
        assert len({(batch.status, batch.ended_at, batch.failure_code) for batch in found}) == 1


async def test_closing_a_batch_here_keeps_what_the_provider_says_later_out(store: Store) -> None:
    batch_id = await accepted(store)
    closed = await store.batches.close(batch_id, BatchStatus.FAILED, code="c", reason="why")
    assert (closed.status, closed.failure_code, closed.failure_reason) == (BatchStatus.FAILED, "c", "why")
    assert await store.batches.record_report(batch_id, said(batch_id, BatchStatus.ENDED)) == closed


async def test_a_report_of_a_running_batch_moves_it_on(store: Store) -> None:
    batch_id = await accepted(store)
    batch = await store.batches.record_report(batch_id, said(batch_id, progress=Progress(total=3, done=2, failed=1)))
    assert (batch.status, batch.progress.done, batch.ended_at) == (BatchStatus.IN_PROGRESS, 2, None)


# Max age.


async def given_up(store: Store, status: BatchStatus, *, canceled_by_somebody: bool = False) -> Any:
    batch_id = await accepted(store)
    if canceled_by_somebody:
        await store.batches.request_cancel(batch_id)
    await store.batches.give_up(batch_id, "too old")
    canceling = await store.batches.record_report(batch_id, said(batch_id, BatchStatus.IN_PROGRESS))
    assert canceling.failure_code == MAX_AGE_EXCEEDED
    return await store.batches.record_report(
        batch_id, said(batch_id, status, failure_code="theirs", failure_reason="said so")
    )


async def test_a_batch_that_is_canceled_for_its_age_has_failed_for_its_age(store: Store) -> None:
    batch = await given_up(store, BatchStatus.CANCELED)
    assert (batch.status, batch.failure_code) == (BatchStatus.FAILED, MAX_AGE_EXCEEDED)
    assert batch.failure_reason == "too old"


async def test_a_batch_that_somebody_canceled_before_is_canceled_whatever_its_age(store: Store) -> None:
    batch = await given_up(store, BatchStatus.CANCELED, canceled_by_somebody=True)
    assert (batch.status, batch.failure_code, batch.failure_reason) == (BatchStatus.CANCELED, "theirs", "said so")


async def test_a_batch_that_ends_after_all_has_no_failure(store: Store) -> None:
    batch_id = await accepted(store)
    await store.batches.give_up(batch_id, "too old")
    batch = await store.batches.record_report(batch_id, said(batch_id, BatchStatus.ENDED))
    assert (batch.status, batch.failure_code, batch.failure_reason) == (BatchStatus.ENDED, None, None)


@pytest.mark.parametrize("status", [BatchStatus.EXPIRED, BatchStatus.FAILED])
async def test_other_ends_after_max_age_keep_their_status_and_say_why(store: Store, status: BatchStatus) -> None:
    batch = await given_up(store, status)
    assert (batch.status, batch.failure_code) == (status, MAX_AGE_EXCEEDED)


# Canceling.


async def test_what_was_never_submitted_cannot_be_canceled(store: Store) -> None:
    batch_id = await filled(store)
    with pytest.raises(CancelRefusedError, match="never submitted"):
        await store.batches.request_cancel(batch_id)


@pytest.mark.parametrize("status", ENDS)
async def test_what_is_over_cannot_be_canceled(store: Store, status: BatchStatus) -> None:
    batch_id = await over(store, status=status)
    with pytest.raises(CancelRefusedError, match=f"over, with status {status.value}"):
        await store.batches.request_cancel(batch_id)


async def test_asking_for_a_cancel_again_keeps_the_first_time(store: Store) -> None:
    batch_id = await accepted(store)
    first = await store.batches.request_cancel(batch_id)
    assert first.cancel_requested_at is not None
    assert await store.batches.request_cancel(batch_id) == first


async def test_the_newest_error_of_a_step_is_kept(store: Store) -> None:
    batch_id = await filled(store)
    await store.batches.record_error(batch_id, "LookupError: \u2028 'x'")
    assert (await store.batches.get(batch_id)).last_error == "LookupError: \u2028 'x'"
    await store.batches.record_error(batch_id, None)
    assert (await store.batches.get(batch_id)).last_error is None


async def test_rows_that_refer_to_a_batch_can_be_written_while_it_is_locked(store: Store, engine: AsyncEngine) -> None:
    async def refer() -> None:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("set local lock_timeout = '2s'")
            await connection.exec_driver_sql(f"insert into notes values ('{batch_id}')")

    async def referring() -> AsyncIterator[NewEntry]:
        await refer()
        yield new_entry()

    async with engine.begin() as connection:
        await connection.exec_driver_sql("create table notes (batch_id uuid references overnight.batches)")
    batch_id = await filled(store)
    await store.entries.add(batch_id, referring(), ROOM)
    async with store.dispatches.attempt(batch_id) as dispatch, dispatch.transaction():
        await refer()
    assert await all_rows(engine, "select count(*) from notes") == [(2,)]
