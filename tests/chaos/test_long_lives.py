"""Long lives: a history that grows long continues as new, and the batch does not notice."""

import asyncio
import functools
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from overnight.batches import BatchStatus
from overnight.client import BatchHandle
from overnight.contracts import workflow_id
from tests.chaos.harness import System, own_servers, running_system
from tests.chaos.harness_audit import audit, complaints

# Events after which Temporal suggests a new history: of some eleven per poll, so that there are many borders.
SHORT = {"limit.historyCount.suggestContinueAsNew": 100}
OFTEN = [timedelta(seconds=0.02)]
# Long enough for a border even where a poll takes half a second.
OLD = timedelta(seconds=8)
REFUSED = {"kind": "status", "status": 503}

pytestmark = pytest.mark.timeout(400)


async def test_a_batch_that_is_polled_for_long_keeps_its_state_over_many_histories(tmp_path: Path) -> None:
    async with (
        own_servers(tmp_path, dynamic_config=SHORT) as servers,
        running_system(tmp_path, servers=servers, in_progress=3600) as system,
    ):
        canceled, unheard, too_old = (
            await system.submit("openai", poll_waits=OFTEN),
            await system.submit("anthropic", poll_waits=OFTEN),
            await system.submit("openai", poll_waits=OFTEN, max_age=OLD),
        )
        await system.fault(REFUSED, operation="batches.cancel")
        await histories(system, canceled, at_least=8)
        await asyncio.gather(canceled.cancel(), unheard.cancel())
        # The provider hears no cancel before a border is crossed: that one is due is remembered over it.
        await histories(system, unheard, at_least=len(await runs(system, unheard)) + 1)
        await system.eventually("one is too old", functools.partial(system.is_over, too_old))
        await system.control("DELETE", "/faults")

        await system.finish()

        assert [(await batch.get()).status for batch in (canceled, unheard)] == [BatchStatus.CANCELED] * 2
        assert (await too_old.get()).failure_code == "max_age_exceeded"
        for batch in (canceled, unheard, too_old):
            await assert_nothing_was_forgotten(system, batch)
        assert complaints(await audit(system)) == []


async def assert_nothing_was_forgotten(system: System, batch: BatchHandle) -> None:
    """What each history did adds up: no step of submission twice, one giving up, and the polls as counted."""
    steps: Counter[str] = Counter()
    chain = await runs(system, batch)
    for run in chain:
        history = await run.fetch_history()
        steps.update(event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events)
    assert len(chain) >= 2
    assert steps["create_provider_batch"] == steps["dispatch_handler"] == 1
    assert steps["upload_entries"] == ((await batch.get()).provider == "openai")  # elsewhere it is a part of the create
    assert steps["expire_batch"] in {0, 2}
    assert steps["fetch_status"] == (await batch.progress()).polls


async def histories(system: System, batch: BatchHandle, *, at_least: int) -> None:
    async def has_enough() -> bool:
        return len(await runs(system, batch)) >= at_least

    await system.eventually(f"batch {batch.id} has {at_least} histories", has_enough)


async def runs(system: System, batch: BatchHandle) -> list[WorkflowHandle[object, object]]:
    """The executions of the batch's workflow, as Temporal's list shows them."""
    client, name = system.overnight.temporal, workflow_id(batch.id)
    found = [run async for run in client.list_workflows(f"WorkflowId = '{name}'")]
    ended_otherwise = {run.status for run in found} - {
        WorkflowExecutionStatus.CONTINUED_AS_NEW,
        WorkflowExecutionStatus.RUNNING,
        WorkflowExecutionStatus.COMPLETED,
    }
    assert not ended_otherwise
    return [client.get_workflow_handle(name, run_id=run.run_id) for run in found]
