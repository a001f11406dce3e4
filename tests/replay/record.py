"""Records a history of every path of today's workflows: `python -m tests.replay.record VERSION` before a release.

The files of earlier versions stay: a history is only deleted when no batch of that version can still be running.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from overnight.batches import BatchStatus
from overnight.contracts import (
    CANCEL,
    POLL_NOW,
    PROGRESS,
    TROUBLE,
    PollState,
    ProgressReport,
    Trouble,
)
from tests.replay.campaign_scripts import CAMPAIGN_SCRIPTS, CampaignScript
from tests.workflow.campaign_stage import CampaignStage
from tests.workflow.searchable import know_attributes
from tests.workflow.stage import Stage, says, transient

HISTORIES = Path(__file__).parent / "histories"
RUNNING = says(BatchStatus.IN_PROGRESS, done=1, total=3)

Script = Callable[[Stage], Awaitable[WorkflowHandle]]


async def _waiting(stage: Stage) -> WorkflowHandle:
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while (await handle.query(PROGRESS, result_type=ProgressReport)).next_poll_at is None:
            await asyncio.sleep(0.01)
    return handle


async def ended(stage: Stage) -> WorkflowHandle:
    stage.polls = [RUNNING, RUNNING, says(BatchStatus.ENDED)]
    return await stage.start()


async def ended_after_errors(stage: Stage) -> WorkflowHandle:
    stage.polls = [transient(), transient(timedelta(minutes=20)), RUNNING, says(BatchStatus.ENDED)]
    return await stage.start()


async def refused(stage: Stage) -> WorkflowHandle:
    stage.creates = [says(BatchStatus.FAILED, reason="too large")]
    return await stage.start()


async def canceled_by_signal(stage: Stage) -> WorkflowHandle:
    stage.polls = [RUNNING, says(BatchStatus.CANCELED)]
    handle = await _waiting(stage)
    await handle.signal(CANCEL)
    return handle


async def canceled_natively(stage: Stage) -> WorkflowHandle:
    stage.polls = [says(BatchStatus.CANCELED)]
    handle = await _waiting(stage)
    await handle.cancel()
    return handle


async def cancel_unheard(stage: Stage) -> WorkflowHandle:
    stage.cancels = [transient()] * 4 + [RUNNING]
    stage.polls = [RUNNING, says(BatchStatus.CANCELED)]
    handle = await _waiting(stage)
    await handle.signal(CANCEL)
    return handle


async def canceled_while_creating(stage: Stage) -> WorkflowHandle:
    stage.creates, stage.cancels = [transient(timedelta(hours=1))], [says(BatchStatus.CANCELED)]
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while "create_provider_batch" not in stage.names():
            await asyncio.sleep(0.01)
        await handle.signal(CANCEL)
    return handle


async def too_old(stage: Stage) -> WorkflowHandle:
    stage.polls = [RUNNING]
    return await stage.start()


async def polled_now(stage: Stage) -> WorkflowHandle:
    stage.polls = [RUNNING, says(BatchStatus.ENDED)]
    handle = await _waiting(stage)
    await handle.signal(POLL_NOW)
    return handle


async def resumed(stage: Stage) -> WorkflowHandle:
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.IN_PROGRESS}
    return await stage.start(resume=PollState(polls=700, waits=700))


async def submitted_again(stage: Stage) -> WorkflowHandle:
    full = says(BatchStatus.PENDING, resubmit=True, reason="too many enqueued tokens")
    stage.polls = [full, full, says(BatchStatus.ENDED)]
    return await stage.start()


async def handler_retried_and_skipped(stage: Stage) -> WorkflowHandle:
    stage.handler_failures = 3
    stage.opened = {"provider_batch_id": "batch_1", "status": BatchStatus.ENDED}
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await stage.order_handler_run_again_and_skipped(handle)
    return handle


async def sent_with_the_create(stage: Stage) -> WorkflowHandle:
    stage.opened = {"uploads_first": False}
    return await stage.start()


async def handled_by_an_activity(stage: Stage) -> WorkflowHandle:
    stage.refusals = 1
    stage.opened = {"handler": None, "handler_activity": "send_report", "handler_task_queue": stage.users_queue}
    return await stage.start()


async def searchable_and_in_trouble(stage: Stage) -> WorkflowHandle:
    """The namespace knows our attributes; a handler fails, says so, and is mended."""
    await know_attributes(stage.environment.client)
    stage.opened, stage.polls = {"is_searchable": True}, [RUNNING, says(BatchStatus.ENDED)]
    stage.handler_failures = 1
    handle = await _waiting(stage)
    trouble = Trouble(batch_id=uuid4(), code="handler_failed", text="LookupError", kind="HandlerFailedError")
    await handle.signal(TROUBLE, trouble)
    return handle


async def searchable_and_forfeited(stage: Stage) -> WorkflowHandle:
    """Results that nobody can read are shown when all is over."""
    await know_attributes(stage.environment.client)
    stage.opened, stage.results_lost = {"is_searchable": True}, True
    return await stage.start()


SCRIPTS: list[Script] = [
    ended,
    ended_after_errors,
    refused,
    canceled_by_signal,
    canceled_natively,
    cancel_unheard,
    canceled_while_creating,
    too_old,
    polled_now,
    resumed,
    submitted_again,
    handler_retried_and_skipped,
    sent_with_the_create,
    handled_by_an_activity,
    searchable_and_in_trouble,
    searchable_and_forfeited,
]


def _without_traces(history: Any) -> str:
    """The same history without stack traces, which name the folders of the machine that recorded it."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != "stackTrace"}
        return [strip(item) for item in node] if isinstance(node, list) else node

    return json.dumps(strip(history), indent=1) + "\n"


async def _recorded(script: Script | CampaignScript, stage: Stage | CampaignStage) -> Any:
    async with stage.worker(), stage.users_worker():
        handle = await script(stage)  # type: ignore[arg-type]
        await handle.result()
    return json.loads((await handle.fetch_history()).to_json())


async def record(version: str, scripts: Sequence[Script | CampaignScript] = (*SCRIPTS, *CAMPAIGN_SCRIPTS)) -> None:
    server = Path(sys.executable).with_name("temporal-test-server")
    for script in scripts:
        async with await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=str(server), data_converter=pydantic_data_converter, identity="recorder"
        ) as environment:
            stage = CampaignStage(environment) if script in CAMPAIGN_SCRIPTS else Stage(environment)
            history = await _recorded(script, stage)
            path = HISTORIES / f"{version}-{script.__name__}.json"  # type: ignore[union-attr]
            path.write_text(_without_traces(history))
            print(path.name, len(history["events"]), "events")  # noqa: T201
    await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
