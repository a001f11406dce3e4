"""Every path of a campaign's workflow, for the recorder."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from temporalio.client import WorkflowHandle

from overnight.batches import BatchStatus
from overnight.campaign_contracts import CampaignState
from overnight.contracts import CANCEL, POLL_NOW, TROUBLE, Trouble, workflow_id
from tests.workflow.campaign_stage import CampaignStage
from tests.workflow.searchable import know_attributes

CampaignScript = Callable[[CampaignStage], Awaitable[WorkflowHandle]]


async def _running(stage: CampaignStage) -> WorkflowHandle:
    handle = await stage.start()
    await stage.begun_count(2)
    return handle


async def campaign_ended(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds = [5]
    return await stage.start()


async def campaign_of_three_rounds(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds, stage.allowed_rounds = [2, 1, 1], 3
    return await stage.start()


async def campaign_without_room(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds, stage.at_once, stage.refused = [6], 4, [(), (3,), (3,)]
    return await stage.start()


async def campaign_canceled_by_signal(stage: CampaignStage) -> WorkflowHandle:
    with stage.environment.auto_time_skipping_disabled():
        handle = await _running(stage)
        await handle.signal(CANCEL)
        await handle.result()
    return handle


async def campaign_canceled_natively(stage: CampaignStage) -> WorkflowHandle:
    with stage.environment.auto_time_skipping_disabled():
        handle = await _running(stage)
        await handle.cancel()
        await handle.result()
    return handle


async def campaign_canceled_while_planning(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds, stage.allowed_rounds, stage.plannable = [1], 2, False
    stage.max_age, stage.lasting = timedelta(days=1), timedelta(milliseconds=10)
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while "plan_round" not in stage.names():
            await asyncio.sleep(0.01)
        await handle.signal(CANCEL)
        await handle.result()
    return handle


async def campaign_too_old(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds, stage.max_age = [9], timedelta(minutes=90)
    return await stage.start()


async def campaign_with_a_lost_batch(stage: CampaignStage) -> WorkflowHandle:
    with stage.environment.auto_time_skipping_disabled():
        handle = await _running(stage)
        lost = stage.begun[0]
        await stage.environment.client.get_workflow_handle(workflow_id(lost)).terminate()
        stage.lost.add(lost)
        await handle.signal(POLL_NOW)
        await stage.begun_count(3)
    return handle


async def campaign_resumed(stage: CampaignStage) -> WorkflowHandle:
    stage.add_round(0)
    stage.over = dict.fromkeys(stage.batches[:1], BatchStatus.ENDED)
    state = CampaignState(running=stage.batches[:1], limit=1, calm=0, is_held=True, looks=7, cancel_requested=True)
    return await stage.start(resume=state)


async def campaign_handler_retried_and_skipped(stage: CampaignStage) -> WorkflowHandle:
    stage.rounds, stage.handler_failures, stage.lasting = [1], 5, timedelta(milliseconds=10)
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await stage.order_handler_run_again_and_skipped(handle)
    return handle


async def campaign_handled_by_an_activity(stage: CampaignStage) -> WorkflowHandle:
    stage.opened = {"handler": None, "handler_activity": "send_report", "handler_task_queue": stage.users_queue}
    stage.rounds = [1]
    return await stage.start()


async def campaign_searchable_and_refused(stage: CampaignStage) -> WorkflowHandle:
    """The namespace knows our attributes, a batch is told to go again, and a handler fails and says so."""
    await know_attributes(stage.environment.client)
    stage.opened, stage.rounds, stage.handler_failures = {"is_searchable": True}, [2], 1
    stage.add_round(0)
    stage.full = set(stage.batches[:1])
    handle = await _running(stage)
    trouble = Trouble(campaign_id=uuid4(), code="http_401", text="HTTP 401", kind="PermanentProviderError")
    await handle.signal(TROUBLE, trouble)
    return handle


CAMPAIGN_SCRIPTS: list[CampaignScript] = [
    campaign_ended,
    campaign_of_three_rounds,
    campaign_without_room,
    campaign_canceled_by_signal,
    campaign_canceled_natively,
    campaign_canceled_while_planning,
    campaign_too_old,
    campaign_with_a_lost_batch,
    campaign_resumed,
    campaign_handler_retried_and_skipped,
    campaign_handled_by_an_activity,
    campaign_searchable_and_refused,
]
