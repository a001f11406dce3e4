"""A campaign's days in milliseconds: what runs, how much at once, and what happens when it must end."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from overnight import campaign_contracts
from overnight.batches import BatchStatus
from overnight.campaign_contracts import CampaignProgress, CampaignState
from overnight.contracts import CANCEL, PROGRESS, SKIP_HANDLER, workflow_id
from tests.workflow.campaign_stage import CampaignStage

END = ["settle_campaign", "dispatch_handler"]


@pytest.fixture
def stage(environment: WorkflowEnvironment) -> CampaignStage:
    return CampaignStage(environment)


async def test_all_batches_run_a_bounded_number_at_once_and_then_the_handler_once(stage: CampaignStage) -> None:
    stage.rounds, stage.at_once = [10], 3
    async with stage.worker():
        summary = await stage.run()

    assert sorted(stage.begun) == sorted(stage.batches)
    assert stage.peak == 3
    assert summary.batches == {BatchStatus.ENDED: 10}
    assert stage.names() == ["open_campaign", "look_at_batches", *END]
    # Whoever opens it may have to weigh all of its entries, and there is no limit to how many.
    assert stage.may_open_for is not None
    assert stage.may_open_for >= timedelta(hours=1)


async def test_hundreds_of_batches_fit_several_histories_and_nothing_is_done_twice_or_forgotten(
    stage: CampaignStage,
) -> None:
    """In real time: with children that outlive their parent's history, the test server does not skip any more."""
    stage.rounds, stage.at_once = [500], 50
    stage.lasting, stage.looks = timedelta(milliseconds=1), [timedelta(seconds=0.5)]
    async with stage.worker():
        with stage.environment.auto_time_skipping_disabled():
            handle = await stage.start()
            await handle.signal(SKIP_HANDLER)
            summary = await handle.result()
        first = stage.environment.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
        events = len((await first.fetch_history()).events)
        status = (await first.describe()).status

    assert sorted(stage.begun) == sorted(stage.batches)
    assert stage.peak <= 50
    assert summary.batches == {BatchStatus.ENDED: 500}
    assert status is WorkflowExecutionStatus.CONTINUED_AS_NEW
    assert events < 6_000
    assert (stage.handler_runs(), stage.names()[-1]) == (0, "skip_handler")


async def test_a_further_round_runs_when_there_is_something_to_ask_again_and_only_as_often_as_allowed(
    stage: CampaignStage,
) -> None:
    stage.rounds, stage.allowed_rounds = [2, 1, 1], 2
    async with stage.worker():
        await stage.run()
    assert len(stage.begun) == 3
    assert stage.names() == ["open_campaign", "look_at_batches", "plan_round", "look_at_batches", *END]


async def test_a_refusal_halves_what_may_run_and_starts_nothing_until_there_is_room(stage: CampaignStage) -> None:
    stage.rounds, stage.at_once = [12], 4
    stage.refused = [(), (3,), (3,), (3,)]
    async with stage.worker():
        handle = await stage.start()
        await handle.result()
        progress = await handle.query(PROGRESS, result_type=CampaignProgress)

    # Four start at once; while one of them is refused the looks (at 1, 3 and 8 minutes) start nothing more.
    assert sorted(stage.begun) == sorted(stage.batches)
    assert stage.peak == 4
    assert progress.limit == 4
    halved = [len(set(stage.begun[:count]) - set(stage.batches[:4])) for count in (4, 6)]
    assert halved == [0, 2]


async def refused_at_first(stage: CampaignStage, *indexes: int) -> list[tuple[int, int]]:
    """Which batches went again when: indexes, and minutes since the campaign began."""
    stage.add_round(0)
    stage.full = {stage.batches[index] for index in indexes}
    async with stage.worker():
        summary = await stage.run()
    assert summary.batches == {BatchStatus.ENDED: len(stage.batches)}
    assert stage.opened_at is not None
    since = stage.opened_at
    return [(stage.batches.index(batch), round((at - since) / timedelta(minutes=1))) for batch, at in stage.sent_again]


async def test_a_refused_batch_goes_again_when_others_have_ended_and_not_before(stage: CampaignStage) -> None:
    stage.rounds, stage.at_once = [4], 4
    # Two may run after the refusal, and three do, for an hour.
    assert await refused_at_first(stage, 3) == [(3, 60)]


async def test_where_nothing_runs_one_refused_batch_at_a_time_finds_out_whether_there_is_room(
    stage: CampaignStage,
) -> None:
    stage.rounds, stage.at_once = [3], 3
    # Seen after a minute, asked at the next look; with one at once, each next one when the one before has ended.
    assert await refused_at_first(stage, 0, 1, 2) == [(0, 3), (1, 63), (2, 123)]


async def cancel(handle: WorkflowHandle, *, natively: bool) -> None:
    await (handle.cancel() if natively else handle.signal(CANCEL))


@pytest.mark.parametrize("natively", [False, True])
async def test_a_cancel_reaches_what_runs_and_starts_nothing_more(stage: CampaignStage, *, natively: bool) -> None:
    stage.rounds, stage.allowed_rounds = [5], 3
    async with stage.worker():
        with stage.environment.auto_time_skipping_disabled():
            handle = await stage.start()
            await stage.begun_count(2)
            await cancel(handle, natively=natively)
            summary = await handle.result()

    assert len(stage.begun) == 2
    assert summary.batches == {BatchStatus.CANCELED: 5}
    assert "plan_round" not in stage.names()
    assert stage.names()[-4:] == ["stop_campaign", "look_at_batches", *END]


async def test_a_cancel_reaches_what_an_earlier_workflow_has_started(stage: CampaignStage) -> None:
    stage.rounds, stage.opened, stage.looks = [4], {"cancel_requested": True}, [timedelta(milliseconds=100)]
    stage.add_round(0)
    async with stage.worker():
        with stage.environment.auto_time_skipping_disabled():
            for batch_id in stage.batches[:2]:
                await stage.start_batch(batch_id)
            await stage.begun_count(2)
            summary = await stage.run()

    assert len(stage.begun) == 2
    assert summary.batches == {BatchStatus.CANCELED: 4}


async def test_a_cancel_does_not_wait_for_a_round_that_cannot_be_planned(stage: CampaignStage) -> None:
    stage.rounds, stage.allowed_rounds, stage.plannable = [1], 2, False
    stage.lasting = timedelta(milliseconds=10)
    async with stage.worker():
        with stage.environment.auto_time_skipping_disabled():
            handle = await stage.start()
            while "plan_round" not in stage.names():
                await asyncio.sleep(0.01)
            await handle.signal(CANCEL)
            await handle.result()
    assert stage.names()[-5:] == ["plan_round", "stop_campaign", "look_at_batches", *END]


async def test_max_age_ends_the_planning_of_a_round_that_cannot_be_planned(stage: CampaignStage) -> None:
    stage.rounds, stage.allowed_rounds, stage.plannable = [1], 2, False
    stage.max_age = timedelta(minutes=90)
    async with stage.worker():
        await stage.run()
    assert stage.names()[-5:] == ["plan_round", "stop_for_age", "look_at_batches", *END]


async def test_max_age_stops_the_whole_to_the_minute(stage: CampaignStage) -> None:
    stage.rounds, stage.max_age, stage.lasting = [9], timedelta(minutes=90), timedelta(hours=1)
    async with stage.worker():
        await stage.run()

    (stopped_at,) = [at for name, at in stage.calls if name == "stop_for_age"]
    assert stage.opened_at is not None
    assert round((stopped_at - stage.opened_at) / timedelta(minutes=1)) == 90
    assert len(stage.begun) == 4
    assert stage.names()[-3:] == ["look_at_batches", *END]


async def test_a_batch_whose_workflow_is_gone_gets_another_one(temporal: Client) -> None:
    """In real time: after a terminate, the test server may never skip time again."""
    stage = CampaignStage(WorkflowEnvironment.from_client(temporal), rounds=[2], looks=[timedelta(seconds=0.1)])
    async with stage.worker():
        handle = await stage.start()
        await stage.begun_count(2)
        lost, other = stage.begun
        await temporal.get_workflow_handle(workflow_id(lost)).terminate()
        stage.lost.add(lost)
        await stage.begun_count(3)
        for batch_id in (lost, other):
            await temporal.get_workflow_handle(workflow_id(batch_id)).signal(CANCEL)
        summary = await handle.result()

    assert stage.begun == [lost, other, lost]
    assert summary.batches == {BatchStatus.CANCELED: 2}


async def test_what_an_earlier_history_knew_is_not_forgotten(stage: CampaignStage) -> None:
    stage.rounds, stage.at_once = [4], 4
    stage.add_round(0)
    async with stage.worker():
        running = stage.batches[0]
        stage.over[running] = BatchStatus.ENDED
        state = CampaignState(running=[running], limit=1, calm=0, is_held=False)
        handle = await stage.start(resume=state)
        await handle.result()
    # At a limit of one, two are allowed after the first that ended, and three after two more.
    assert running not in stage.begun
    assert stage.peak <= 3


async def test_a_handler_that_fails_can_be_run_again_and_skipped(stage: CampaignStage) -> None:
    stage.rounds, stage.handler_failures, stage.lasting = [1], 5, timedelta(milliseconds=10)
    async with stage.worker():
        with stage.environment.auto_time_skipping_disabled():
            handle = await stage.start()
            await stage.order_handler_run_again_and_skipped(handle)
        await handle.result()
    assert stage.names()[-1] == "skip_handler"


async def test_an_activity_of_the_users_gets_the_summary_and_the_tasks_stay_where_they_are(
    stage: CampaignStage,
) -> None:
    queue = f"{stage.queue}-users"
    stage.opened = {"handler": None, "handler_activity": "send_report", "handler_task_queue": queue}
    stage.allowed_rounds, stage.rounds = 2, [1]
    async with stage.worker(), stage.users_worker():
        summary = await stage.run()

    assert stage.reports == [summary]
    assert stage.names()[-4:] == ["plan_round", "settle_campaign", "send_report", "dispatch_handler"]


@pytest.mark.parametrize("arguments", [[], [{"campaign": "no such field"}]])
async def test_a_senseless_start_fails_instead_of_being_tried_for_ever(
    stage: CampaignStage, arguments: list[object]
) -> None:
    async with stage.worker():
        with pytest.raises(WorkflowFailureError) as failed:
            await stage.environment.client.execute_workflow(
                campaign_contracts.WORKFLOW, args=arguments, id="campaign-senseless", task_queue=stage.queue
            )
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "StartError"
