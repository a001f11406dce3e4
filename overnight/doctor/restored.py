"""After Postgres was restored to an earlier moment: Temporal and the providers know more than the database.

The workflows went on from what is written nowhere any more, so none of them can be trusted to go on: each is started
anew from where its row stands. Whatever the rows do not say was created may have been created, and is searched for
before anything is created again (docs/decisions/0028).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from overnight import contracts
from overnight.batches import BatchStatus
from overnight.client import Overnight
from overnight.doctor.batches import start_again
from overnight.errors import TemporalError

FORGOTTEN = "restored"
"""The failure code of a batch that was submitted in the time which the database has lost."""

_PAGE = 500


class Fate(StrEnum):
    """What became of a batch."""

    GOES_ON = "goes_on"
    """From where its row stands; what it may have at the provider is searched for first."""
    CLOSED = "closed"
    """Its row says that it was never submitted, and it was, with who knows which entries: it ends as failed."""
    ROW_LOST = "row_lost"
    """It has no row any more; its workflow is terminated."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """One batch, after the restore."""

    batch_id: UUID
    fate: Fate


async def recover(overnight: Overnight) -> list[Recovered]:
    """Bring every batch that is in flight into a state from which it goes on, or say that it cannot. Workers must be
    stopped. Doing it again does no harm.

    Raises:
        TemporalError: Temporal does not answer; what was not reached yet is as it was.
    """
    try:
        return [recovered async for recovered in _each(overnight)]
    except RPCError as error:
        raise TemporalError(f"Temporal does not answer: {error.message}. Run it again when it does.") from None


async def _each(overnight: Overnight) -> AsyncIterator[Recovered]:
    for batch in await overnight.store.batches.unfinished():
        await overnight.store.submissions.suspect(batch.id)
        await start_again(overnight, batch, conflict=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
        yield Recovered(batch_id=batch.id, fate=Fate.GOES_ON)
    for batch_id in await _submitted_since(overnight):
        yield Recovered(batch_id=batch_id, fate=Fate.CLOSED)
    for batch_id in await _without_row(overnight):
        yield Recovered(batch_id=batch_id, fate=Fate.ROW_LOST)


async def _submitted_since(overnight: Overnight) -> list[UUID]:
    """Batches that are open for further entries here, and that Temporal has a workflow of."""
    closed = []
    for batch in await overnight.store.batches.unsealed():
        handle = overnight.temporal.get_workflow_handle(contracts.workflow_id(batch.id))
        if not await _ended(handle):
            continue
        reason = (
            "It was submitted, and the database was then restored to a moment before that. Look for it at the "
            "provider, cancel it there, and submit its entries as a new batch."
        )
        await overnight.store.batches.close(batch.id, BatchStatus.FAILED, code=FORGOTTEN, reason=reason)
        if batch.entry_count:  # its handler learns of it like of any other failure
            sealed, _ = await overnight.store.batches.seal(batch.id)
            await start_again(overnight, sealed)
        closed.append(batch.id)
    return closed


async def _ended(handle: WorkflowHandle[object, object]) -> bool:
    """Whether there is such a workflow; it does not run any more."""
    try:
        await handle.terminate("the database was restored to an earlier moment")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return await _exists(handle)
    return True


async def _exists(handle: WorkflowHandle[object, object]) -> bool:
    """One that is over cannot be terminated, but described."""
    try:
        await handle.describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _without_row(overnight: Overnight) -> list[UUID]:
    """Workflows of batches that were created in the lost time. Those that carry their entries along are left alone:
    they have no row before they have run.
    """
    query = f"WorkflowType = '{contracts.WORKFLOW}' and ExecutionStatus = 'Running'"
    running = {
        batch_id: workflow.id
        async for workflow in overnight.temporal.list_workflows(query, page_size=_PAGE)
        if workflow.task_queue == overnight.settings.task_queue and (batch_id := _batch_id(workflow.id))
    }
    lost = set(running) - await overnight.store.batches.known(set(running))
    for batch_id in lost:
        await _ended(overnight.temporal.get_workflow_handle(running[batch_id]))
    return sorted(lost)


def _batch_id(workflow_id: str) -> UUID | None:
    try:
        batch_id = UUID(workflow_id.rpartition("batch-")[2])
    except ValueError:
        return None
    return batch_id if contracts.workflow_id(batch_id) == workflow_id else None
