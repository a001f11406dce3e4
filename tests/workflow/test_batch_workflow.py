"""Twenty-six hours in milliseconds: what the workflow does, in which order, and when."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from overnight.batches import BatchStatus, Outcome
from overnight.contracts import (
    CANCEL,
    POLL_NOW,
    PROGRESS,
    RETRY_HANDLER,
    SKIP_HANDLER,
    PollState,
    ProgressReport,
    bulk_task_queue,
)
from tests.workflow.stage import Stage, says, transient

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RUNNING = says(BatchStatus.IN_PROGRESS, done=1, total=3)
FINISH = ["ingest_results", "hydrate_results", "dispatch_handler", "clean_up"]
FULL = says(BatchStatus.PENDING, resubmit=True, reason="too many enqueued tokens")


def minutes(times: list[timedelta]) -> list[float]:
    return [round(time / MINUTE, 1) for time in times]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_polls_come_at_1_2_5_10_30_minutes_and_then_every_30(stage: Stage) -> None:
    stage.polls = [RUNNING] * 7 + [says(BatchStatus.ENDED)]

    summary = await stage.run()

    assert minutes(stage.times("fetch_status")) == [1, 3, 8, 18, 48, 78, 108, 138]
    assert summary.status is BatchStatus.ENDED
    assert summary.outcomes == {Outcome.SUCCEEDED: 3}
    assert stage.names() == ["open_batch", "upload_entries", "create_provider_batch", "fetch_status", *FINISH]


@pytest.mark.parametrize("status", [BatchStatus.ENDED, BatchStatus.CANCELED, BatchStatus.EXPIRED, BatchStatus.FAILED])
async def test_every_terminal_status_is_ingested_hydrated_and_dispatched(stage: Stage, status: BatchStatus) -> None:
    stage.polls = [says(status)]

    summary = await stage.run()

    assert summary.status is status
    assert stage.names()[-4:] == FINISH


async def test_a_batch_that_is_refused_at_once_is_not_polled_and_still_dispatched(stage: Stage) -> None:
    stage.creates = [says(BatchStatus.FAILED, reason="too large")]

    summary = await stage.run()

    assert summary.reason == "too large"
    assert stage.names() == ["open_batch", "upload_entries", "create_provider_batch", *FINISH]


async def test_a_batch_that_never_ends_is_given_up_at_26_hours_and_closed_after_the_grace(stage: Stage) -> None:
    stage.polls = [RUNNING]

    summary = await stage.run()

    assert minutes(stage.times("expire_batch")) == [26 * 60]
    assert minutes(stage.times("expire_batch_finally")) == [26 * 60 + 15]
    assert summary.status is BatchStatus.FAILED
    assert summary.reason == "too old"
    assert stage.names()[-4:] == FINISH


async def test_a_provider_that_ends_the_batch_within_the_grace_is_heard(stage: Stage) -> None:
    polls_until_max_age = 56
    stage.polls = [RUNNING] * (polls_until_max_age + 2) + [says(BatchStatus.EXPIRED)]

    summary = await stage.run()

    assert summary.status is BatchStatus.EXPIRED
    assert "expire_batch" in stage.names()
    assert "expire_batch_finally" not in stage.names()


async def test_errors_of_a_whole_day_end_nothing(stage: Stage) -> None:
    stage.polls = [transient()] * 50 + [says(BatchStatus.ENDED)]

    summary = await stage.run()

    assert summary.status is BatchStatus.ENDED
    assert stage.times("fetch_status")[-1] > 20 * HOUR


async def test_retry_after_lengthens_the_next_wait_and_only_that(stage: Stage) -> None:
    stage.polls = [transient(timedelta(minutes=20)), RUNNING, says(BatchStatus.ENDED)]

    await stage.run()

    assert minutes(stage.times("fetch_status")) == [1, 21, 26]


async def test_a_retry_after_beyond_max_age_does_not_move_the_deadline(stage: Stage) -> None:
    stage.polls = [transient(timedelta(hours=100)), RUNNING]

    await stage.run()

    assert minutes(stage.times("expire_batch")) == [26 * 60]


async def reach_first_wait(stage: Stage) -> WorkflowHandle:
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await until(lambda: ("create_provider_batch") in stage.names())
        while (await handle.query(PROGRESS, result_type=ProgressReport)).next_poll_at is None:
            await asyncio.sleep(0.01)
    return handle


async def test_a_cancel_signal_is_carried_out_at_once_and_then_polled_quickly(stage: Stage) -> None:
    stage.polls = [RUNNING, says(BatchStatus.CANCELED)]
    handle = await reach_first_wait(stage)

    await handle.signal(CANCEL)
    summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert stage.times("cancel_batch")[0] < MINUTE
    assert minutes(stage.times("fetch_status", since="cancel_batch")) == [1, 3]
    assert stage.names().count("cancel_batch") == 1


async def test_temporals_own_cancellation_means_what_the_signal_means(stage: Stage) -> None:
    stage.polls = [says(BatchStatus.CANCELED)]
    handle = await reach_first_wait(stage)

    await handle.cancel()
    summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert stage.names()[-6:] == ["cancel_batch", "fetch_status", *FINISH]


async def test_a_second_cancel_changes_nothing(stage: Stage) -> None:
    stage.polls = [RUNNING, RUNNING, says(BatchStatus.CANCELED)]
    handle = await reach_first_wait(stage)

    await handle.signal(CANCEL)
    await until(lambda: "cancel_batch" in stage.names())
    await handle.signal(CANCEL)
    await handle.cancel()
    await handle.result()

    assert [name for name, _ in stage.calls].count("cancel_batch") == 1


async def test_a_cancel_that_the_provider_does_not_hear_is_asked_for_again_between_polls(stage: Stage) -> None:
    stage.cancels = [transient()] * 4 + [RUNNING]
    stage.polls = [RUNNING, says(BatchStatus.CANCELED)]
    handle = await reach_first_wait(stage)

    await handle.signal(CANCEL)
    summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert stage.names()[3:] == ["cancel_batch", "fetch_status", "cancel_batch", "fetch_status", *FINISH]


async def test_a_cancel_while_the_create_waits_for_its_retry_stops_it(stage: Stage) -> None:
    stage.creates = [transient(timedelta(hours=1))]
    stage.cancels = [says(BatchStatus.CANCELED)]
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await until(lambda: "create_provider_batch" in stage.names())
        await handle.signal(CANCEL)
        summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert stage.names() == ["open_batch", "upload_entries", "create_provider_batch", "cancel_batch", *FINISH]


async def test_a_cancel_before_anything_was_sent_sends_nothing(stage: Stage) -> None:
    stage.cancels = [says(BatchStatus.CANCELED)]
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start(resume=PollState(cancel_requested=True))
        summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert "create_provider_batch" not in stage.names()


async def test_poll_now_looks_at_once_and_leaves_the_schedule_alone(stage: Stage) -> None:
    stage.polls = [RUNNING, RUNNING, says(BatchStatus.ENDED)]
    handle = await reach_first_wait(stage)

    await handle.signal(POLL_NOW)
    await until(lambda: "fetch_status" in stage.names())
    await handle.result()

    first, second, third = stage.times("fetch_status")
    assert first < MINUTE / 2
    assert minutes([second - first, third - second]) == [1, 2]


async def test_progress_says_what_is_going_on(stage: Stage) -> None:
    handle = await reach_first_wait(stage)

    progress = await handle.query(PROGRESS, result_type=ProgressReport)

    assert (progress.step, progress.status, progress.polls) == ("poll", BatchStatus.SUBMITTED, 0)
    assert progress.next_poll_at is not None
    assert not progress.cancel_requested
    await handle.result()
    assert (await handle.query(PROGRESS, result_type=ProgressReport)).step == "done"


async def test_progress_names_the_last_error_until_a_poll_succeeds(stage: Stage) -> None:
    stage.polls = [transient(), RUNNING, says(BatchStatus.ENDED)]
    handle = await reach_first_wait(stage)

    with stage.environment.auto_time_skipping_disabled():
        await handle.signal(POLL_NOW)
        while (await handle.query(PROGRESS, result_type=ProgressReport)).last_error is None:
            await asyncio.sleep(0.01)
        await handle.signal(POLL_NOW)
        while (await handle.query(PROGRESS, result_type=ProgressReport)).last_error is not None:
            await asyncio.sleep(0.01)
        assert stage.names().count("fetch_status") == 1
    await handle.result()


async def test_a_batch_that_was_accepted_before_is_not_submitted_again(stage: Stage) -> None:
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.IN_PROGRESS}

    await stage.run()

    assert stage.names() == ["open_batch", "fetch_status", *FINISH]


async def test_a_batch_that_is_over_already_goes_straight_to_its_results(stage: Stage) -> None:
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.EXPIRED}

    summary = await stage.run()

    assert summary.status is BatchStatus.EXPIRED
    assert stage.names() == ["open_batch", *FINISH]


async def task_queues(handle: WorkflowHandle[Any, Any]) -> dict[str, str]:
    """Where each step was asked for."""
    scheduled = [event.activity_task_scheduled_event_attributes for event in (await handle.fetch_history()).events]
    return {one.activity_type.name: one.task_queue.name for one in scheduled if one.activity_id}


async def test_steps_that_grow_with_the_batch_have_a_task_queue_of_their_own(stage: Stage) -> None:
    handle = await stage.start()
    await handle.result()

    queues = await task_queues(handle)
    assert {step for step, queue in queues.items() if queue == stage.queue} == {"open_batch", "fetch_status"}
    assert {step for step, queue in queues.items() if queue == bulk_task_queue(stage.queue)} == {
        "upload_entries",
        "create_provider_batch",
        "ingest_results",
        "hydrate_results",
        "dispatch_handler",
        "clean_up",
    }


async def test_polls_and_cancels_come_before_the_first_steps_of_batches_that_wait(stage: Stage) -> None:
    stage.polls = [RUNNING, says(BatchStatus.CANCELED)]
    handle = await stage.start()
    await until(lambda: "create_provider_batch" in stage.names())
    await handle.signal(CANCEL)
    await handle.result()

    scheduled = [event.activity_task_scheduled_event_attributes for event in (await handle.fetch_history()).events]
    orders = {one.activity_type.name: one.priority.priority_key for one in scheduled if one.activity_id}
    assert {step for step, order in orders.items() if order == 1} == {"fetch_status", "cancel_batch"}
    assert orders["open_batch"] == 0


async def test_user_code_runs_on_the_task_queue_that_the_batch_names(stage: Stage) -> None:
    stage.opened = {"handler_task_queue": "somewhere-else", "provider_batch_id": "b", "status": BatchStatus.ENDED}
    handle = await stage.start()

    while "hydrate_results" not in (queues := await task_queues(handle)):
        await asyncio.sleep(0.01)
    assert queues["hydrate_results"] == "somewhere-else"
    assert set(queues.values()) == {stage.queue, bulk_task_queue(stage.queue), "somewhere-else"}
    await handle.terminate()


async def test_a_full_queue_is_waited_out_and_the_batch_submitted_again(stage: Stage) -> None:
    stage.polls = [FULL, FULL, says(BatchStatus.ENDED)]

    summary = await stage.run()

    assert summary.status is BatchStatus.ENDED
    sent = ["upload_entries", "create_provider_batch", "fetch_status"]
    assert stage.names() == ["open_batch", *sent, *sent, *sent, *FINISH]
    # A poll after 1 minute, then waits of 1 and of 2 minutes for room.
    assert minutes(stage.times("create_provider_batch", since="open_batch")) == [0, 2, 5]


async def test_a_create_that_is_sent_back_at_once_waits_like_one_that_a_poll_finds_without_room(stage: Stage) -> None:
    stage.creates = [FULL, FULL, says(BatchStatus.SUBMITTED)]

    summary = await stage.run()

    assert summary.status is BatchStatus.ENDED
    assert minutes(stage.times("create_provider_batch", since="open_batch")) == [0, 1, 3]


async def test_a_batch_of_a_campaign_waits_to_be_told_that_there_is_room(stage: Stage) -> None:
    stage.opened, stage.polls = {"is_paced": True}, [FULL, FULL, says(BatchStatus.ENDED)]
    handle = await reach_first_wait(stage)
    with stage.environment.auto_time_skipping_disabled():
        await handle.signal(POLL_NOW)
        while (await handle.query(PROGRESS, result_type=ProgressReport)).step != "wait for room at the provider":
            await asyncio.sleep(0.01)
        await handle.signal(POLL_NOW)
        await until(lambda: [name for name, _ in stage.calls].count("create_provider_batch") == 2)
    await handle.result()

    # Nobody tells it a second time: after two hours it goes by itself.
    _, told, alone = stage.times("create_provider_batch", since="open_batch")
    assert minutes([alone - told]) == [121]


async def test_an_early_order_to_skip_the_handler_outlives_its_history(stage: Stage) -> None:
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.ENDED}
    handle = await stage.start(resume=PollState(order="skip"))
    await handle.result()
    assert stage.names()[-2:] == ["skip_handler", "clean_up"]


async def test_a_cancel_while_waiting_for_room_submits_nothing_more(stage: Stage) -> None:
    stage.polls = [FULL]
    stage.cancels = [says(BatchStatus.CANCELED)]
    handle = await reach_first_wait(stage)
    with stage.environment.auto_time_skipping_disabled():
        await handle.signal(POLL_NOW)
        while (await handle.query(PROGRESS, result_type=ProgressReport)).step != "wait for room at the provider":
            await asyncio.sleep(0.01)
        await handle.signal(CANCEL)
    summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert [name for name, _ in stage.calls].count("create_provider_batch") == 1


async def test_a_batch_that_found_room_is_not_kept_waiting_for_it_when_its_history_continues_as_new(
    stage: Stage,
) -> None:
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.IN_PROGRESS}
    await (await stage.start(resume=PollState(refusals=5))).result()

    assert minutes(stage.times("fetch_status", since="open_batch")) == [1]


async def test_a_batch_that_waits_for_room_does_not_grow_too_old(stage: Stage) -> None:
    stage.polls = [FULL] * 60 + [says(BatchStatus.ENDED)]

    summary = await stage.run()

    assert summary.status is BatchStatus.ENDED
    assert stage.times("create_provider_batch", since="open_batch")[-1] > 26 * HOUR
    assert "expire_batch" not in stage.names()


async def test_a_handler_that_raises_for_hours_is_run_until_it_succeeds(stage: Stage) -> None:
    stage.handler_failures = 15

    await stage.run()

    assert stage.times("dispatch_handler", since="ingest_results")[-1] > 2 * HOUR
    assert stage.names()[-1] == "clean_up"


async def failing_handler(stage: Stage) -> WorkflowHandle:
    stage.handler_failures = 2
    stage.polls = [says(BatchStatus.ENDED)]
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.ENDED}
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await until(lambda: "dispatch_handler" in stage.names())
    return handle


async def test_retry_handler_runs_it_again_at_once(stage: Stage) -> None:
    handle = await failing_handler(stage)
    with stage.environment.auto_time_skipping_disabled():
        await handle.signal(RETRY_HANDLER)
        await until(lambda: [name for name, _ in stage.calls].count("dispatch_handler") == 2)
        await handle.signal(RETRY_HANDLER)
        await handle.result()

    assert stage.times("dispatch_handler", since="ingest_results")[-1] < 5 * SECOND


async def test_skip_handler_finishes_the_batch_without_it(stage: Stage) -> None:
    handle = await failing_handler(stage)
    with stage.environment.auto_time_skipping_disabled():
        await handle.signal(SKIP_HANDLER)
        await handle.result()

    assert stage.names()[-3:] == ["dispatch_handler", "skip_handler", "clean_up"]


async def test_a_handler_can_be_skipped_long_before_its_turn(stage: Stage) -> None:
    handle = await reach_first_wait(stage)
    await handle.signal(SKIP_HANDLER)
    await handle.result()

    assert "dispatch_handler" not in stage.names()
    assert "skip_handler" in stage.names()
