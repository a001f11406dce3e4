"""A workflow of the user's own runs a batch as its child, and has its summary."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ChildWorkflowError, TerminatedError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from overnight import BatchStatus, Outcome, Overnight, RawRequest
from overnight.client import BatchHandle
from overnight.contracts import BatchSpec, BatchSummary, SpecEntry, workflow_id
from overnight.doctor import Fate, Recovered, recover
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from tests.e2e.handling.nightly import ByName, Forgiving, Inline, Nightly

pytestmark = pytest.mark.usefixtures("worker")

MODEL = "claude-haiku-4-5"
REQUEST = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Good night?"}]}


@pytest.fixture
async def users(temporal: Client) -> AsyncIterator[str]:
    """A worker of the user's; answers its task queue."""
    task_queue = f"users-{secrets.token_hex(4)}"
    passed_through = SandboxRestrictions.default.with_passthrough_modules("overnight", "pydantic", "pydantic_core")
    runner = SandboxedWorkflowRunner(restrictions=passed_through)
    workflows = [Nightly, Inline, ByName, Forgiving]
    async with Worker(temporal, task_queue=task_queue, workflows=workflows, workflow_runner=runner):
        yield task_queue


async def pending(overnight: Overnight) -> BatchHandle:
    """A batch that is in Postgres, and that nobody has sealed."""
    batch = await overnight.create_batch(provider="anthropic", model=MODEL)
    await batch.add_all(RawRequest(body=REQUEST) for _ in range(3))
    return batch


async def start(overnight: Overnight, users: str, run: Any, about: Any) -> WorkflowHandle[Any, Any]:
    arguments = [about, overnight.settings.task_queue]
    return await overnight.temporal.start_workflow(
        run, args=arguments, id=f"nightly-{secrets.token_hex(4)}", task_queue=users
    )


async def test_a_pending_batch_runs_and_its_summary_comes_back_typed(overnight: Overnight, users: str) -> None:
    batch = await pending(overnight)
    parent = await start(overnight, users, Nightly.run, batch.id)
    summary: BatchSummary = await parent.result()

    finished = await batch.get()
    assert (summary.batch_id, summary.status) == (batch.id, BatchStatus.ENDED)
    assert summary.outcomes == {Outcome.SUCCEEDED: 3}
    assert summary.cost == finished.cost.billed
    assert finished.workflow_id == workflow_id(batch.id)
    assert finished.handler_dispatched_at is not None


async def test_a_whole_batch_inside_the_workflow_runs_as_well(overnight: Overnight, users: str) -> None:
    entries = [SpecEntry(custom_id=f"n-{number}", request=REQUEST) for number in range(2)]
    spec = BatchSpec(provider="anthropic", model=MODEL, entries=entries)
    parent = await start(overnight, users, Inline.run, spec)
    summary: BatchSummary = await parent.result()

    assert summary.outcomes == {Outcome.SUCCEEDED: 2}
    assert [entry.custom_id async for entry in overnight.batch(summary.batch_id).entries()] == ["n-0", "n-1"]


async def test_without_our_helper_and_under_another_id_it_is_the_same(overnight: Overnight, users: str) -> None:
    batch = await pending(overnight)
    parent = await start(overnight, users, ByName.run, str(batch.id))
    summary = await parent.result()

    assert (summary["status"], summary["outcomes"]) == ("ended", {"succeeded": 3})
    assert (await batch.get()).workflow_id == f"mine-{batch.id}"
    assert (await batch.progress()).step == "done"


async def test_a_start_that_makes_no_sense_is_an_error_that_says_so(overnight: Overnight, users: str) -> None:
    parent = await start(overnight, users, Forgiving.run, UUID(int=7))

    assert "Unknown batch" in await parent.result()


class TestWhileTheProviderIsBusy:
    @pytest.fixture
    def simulator_config(self) -> SimulatorConfig:
        return SimulatorConfig(stages=Stages(validating=0, in_progress=3600, finalizing=0, canceling=0))

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"poll_waits": (timedelta(seconds=0.1),)})

    async def at_the_provider(self, overnight: Overnight, users: str) -> tuple[BatchHandle, WorkflowHandle[Any, Any]]:
        batch = await pending(overnight)
        parent = await start(overnight, users, Nightly.run, batch.id)
        while (await batch.get()).status is not BatchStatus.IN_PROGRESS:
            await asyncio.sleep(0.02)
        return batch, parent

    async def test_a_cancellation_of_the_parent_reaches_the_provider(self, overnight: Overnight, users: str) -> None:
        batch, parent = await self.at_the_provider(overnight, users)
        await parent.cancel()
        summary: BatchSummary = await parent.result()

        assert summary.status is BatchStatus.CANCELED
        assert summary.outcomes == {Outcome.CANCELED: 3}
        assert (await batch.get()).status is BatchStatus.CANCELED

    async def test_a_parent_that_is_terminated_leaves_the_batch_running(self, overnight: Overnight, users: str) -> None:
        batch, parent = await self.at_the_provider(overnight, users)
        await parent.terminate()
        await batch.poll_now()

        assert (await batch.progress()).step == "poll"
        await batch.cancel()
        assert (await batch.wait()).status is BatchStatus.CANCELED

    async def test_after_a_restore_the_batch_goes_on_by_itself_and_the_parent_is_told(
        self, overnight: Overnight, users: str
    ) -> None:
        batch, parent = await self.at_the_provider(overnight, users)
        assert await recover(overnight) == [Recovered(batch_id=batch.id, fate=Fate.GOES_ON)]

        with pytest.raises(WorkflowFailureError) as failed:
            await parent.result()
        assert isinstance(failed.value.cause, ChildWorkflowError)
        assert isinstance(failed.value.cause.cause, TerminatedError)
        await batch.cancel()
        assert (await batch.wait()).status is BatchStatus.CANCELED
