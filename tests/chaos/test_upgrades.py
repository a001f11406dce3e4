"""A rehearsal of an upgrade: a new version comes while batches of the old one are at every step. All finish, once."""

import pytest

from overnight.client import BatchHandle
from overnight.contracts import workflow_id
from tests.chaos.conftest import StartSystem
from tests.chaos.harness import System
from tests.chaos.harness_steps import at_every_step, let_go

STEPS_WITH_NEW_COMMANDS = 5

pytestmark = pytest.mark.timeout(400)


async def patches(system: System, batch: BatchHandle) -> set[str]:
    """The steps that this batch took in the new version's way."""
    history = await system.overnight.temporal.get_workflow_handle(workflow_id(batch.id)).fetch_history()
    markers = [event.marker_recorded_event_attributes.details["patch-data"] for event in history.events]
    return {str(data.payloads[0].data) for data in markers if data.payloads}


async def test_batches_at_every_step_outlive_a_change_of_the_workflow(surviving: StartSystem) -> None:
    async with surviving() as system:
        await at_every_step(system)
        [workers] = system.workers
        await workers.upgrade("Guarded")
        let_go(system)
        fresh = await system.submit("anthropic")
        await system.finish()

        new_ways = [len(await patches(system, batch)) for batch in system.batches]
        # What came after the upgrade went the new way all along, what was over went the old way, others changed over.
        assert len(await patches(system, fresh)) == STEPS_WITH_NEW_COMMANDS
        assert {0, STEPS_WITH_NEW_COMMANDS} < set(new_ways)
