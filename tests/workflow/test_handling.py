"""Where the user's code runs, and what the workflow does while it does not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from overnight.batches import BatchStatus, Outcome
from overnight.contracts import PROGRESS, RETRY_HANDLER, SKIP_HANDLER, BatchSummary, ProgressReport
from tests.workflow.stage import Stage, says
from tests.workflow.test_batch_workflow import minutes, until
from workflows import options

OVER = {"provider_batch_id": "batch_1", "status": BatchStatus.ENDED}

# The test server's clock does not jump while a step waits for a worker.
PATIENCE = timedelta(seconds=0.5)


@pytest.fixture
async def stage(environment: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A stage whose workflow is soon out of patience with a task queue that nobody polls."""
    monkeypatch.setattr(options, "PATIENCE", PATIENCE)
    stage = Stage(environment)
    async with stage.worker("workflows"):
        yield stage


@pytest.fixture
def elsewhere(stage: Stage) -> Stage:
    """A batch that is over, with a handler in a process of the user's own."""
    stage.opened = {**OVER, "handler_task_queue": stage.users_queue}
    return stage


@pytest.fixture
def mailer(stage: Stage) -> Stage:
    """A batch that is over, with an activity of the user's own for a handler."""
    stage.opened = {
        **OVER,
        "handler": None,
        "handler_activity": "send_report",
        "handler_task_queue": stage.users_queue,
    }
    return stage


async def progress(handle: WorkflowHandle[Any, Any]) -> ProgressReport:
    return ProgressReport.model_validate(await handle.query(PROGRESS, result_type=ProgressReport))


async def left_alone(stage: Stage, step: str) -> WorkflowHandle[Any, BatchSummary]:
    """A batch that waits for a worker of the user's, for longer than that is thought normal."""
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while (await progress(handle)).step != step:
            await asyncio.sleep(0.01)
        await until(lambda: bool(stage.told))
    return handle


async def test_a_task_queue_that_nobody_polls_is_told_once_and_waited_for(elsewhere: Stage) -> None:
    handle = await left_alone(elsewhere, "hydrate")
    with elsewhere.environment.auto_time_skipping_disabled():
        await asyncio.sleep(3 * PATIENCE.total_seconds())
        waiting = await progress(handle)
        async with elsewhere.users_worker():
            await handle.result()

    (told,) = elsewhere.told
    assert (told.batch_id, told.code) == (waiting.batch_id, "no_handler_worker")
    assert waiting.last_error == told.text
    assert f"hydrate_results from task queue '{elsewhere.users_queue}'" in told.text
    assert elsewhere.names() == ["open_batch", "ingest_results", "hydrate_results", "dispatch_handler", "clean_up"]
    assert (await progress(handle)).last_error is None


async def test_the_handlers_task_queue_is_in_what_temporals_ui_shows(elsewhere: Stage) -> None:
    handle = await left_alone(elsewhere, "hydrate")
    metadata = str(await handle.query("__temporal_workflow_metadata"))
    summaries = {bytes(event.user_metadata.summary.data).decode() for event in (await handle.fetch_history()).events}

    assert f"- handler: Save on task queue {elsewhere.users_queue}" in metadata
    assert "> Last error: No worker took hydrate_results" in metadata
    assert f'"turn responses into outputs on task queue {elsewhere.users_queue}"' in summaries
    await handle.terminate()


async def test_an_activity_gets_the_summary_and_its_run_is_noted(mailer: Stage) -> None:
    async with mailer.users_worker():
        summary = await mailer.run()

    assert mailer.reports == [summary]
    assert summary.outcomes == {Outcome.SUCCEEDED: 3}
    finish = ["ingest_results", "hydrate_results", "send_report", "dispatch_handler", "clean_up"]
    assert mailer.names() == ["open_batch", *finish]


async def test_outputs_are_made_without_the_activitys_worker(mailer: Stage) -> None:
    handle = await left_alone(mailer, "dispatch")

    assert "hydrate_results" in mailer.names()
    assert "a worker with that activity" in mailer.told[0].text
    async with mailer.users_worker():
        await handle.result()
    assert len(mailer.told) == 1


async def test_an_activity_that_gives_up_is_told_and_run_again_half_an_hour_later(mailer: Stage) -> None:
    mailer.refusals = 2
    async with mailer.users_worker():
        await mailer.run()

    first, second, third = mailer.times("send_report", since="hydrate_results")
    assert minutes([second - first, third - second]) == [30, 30]
    assert {told.code for told in mailer.told} == {"handler_failed"}
    assert "no such mailbox" not in mailer.told[0].text


async def test_retry_handler_runs_an_activity_that_gave_up_at_once(mailer: Stage) -> None:
    mailer.refusals = 1
    async with mailer.users_worker():
        with mailer.environment.auto_time_skipping_disabled():
            handle = await mailer.start()
            await until(lambda: bool(mailer.told))
            await handle.signal(RETRY_HANDLER)
            await handle.result()

    assert len(mailer.reports) == 2
    assert mailer.times("send_report", since="hydrate_results")[-1] < timedelta(minutes=1)


@pytest.mark.parametrize("what", ["elsewhere", "mailer"])
async def test_a_handler_is_skipped_without_a_worker_of_its_own(
    request: pytest.FixtureRequest, stage: Stage, what: str
) -> None:
    request.getfixturevalue(what)
    stage.opened |= {"status": BatchStatus.CANCELED}
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while (await progress(handle)).step != ("hydrate" if what == "elsewhere" else "dispatch"):
            await asyncio.sleep(0.01)
        await handle.signal(SKIP_HANDLER)
        if what == "elsewhere":  # there is nobody else who knows the Tasks
            async with stage.users_worker():
                await until(lambda: "hydrate_results" in stage.names())
        summary = await handle.result()

    assert summary.status is BatchStatus.CANCELED
    assert stage.names()[-2:] == ["skip_handler", "clean_up"]
    assert stage.reports == []


async def test_a_handler_that_an_earlier_workflow_has_run_is_not_run_again(mailer: Stage) -> None:
    mailer.opened |= {"is_dispatched": True}
    await mailer.run()

    assert mailer.names() == ["open_batch", "ingest_results", "hydrate_results", "clean_up"]


async def test_what_travels_with_the_create_is_not_said_to_be_uploaded(stage: Stage) -> None:
    stage.opened = {"uploads_first": False}
    stage.polls = [says(BatchStatus.ENDED)]
    await stage.run()

    assert stage.names()[:3] == ["open_batch", "create_provider_batch", "fetch_status"]
