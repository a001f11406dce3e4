"""After Postgres was restored to an earlier moment: Temporal and the providers know more than the database.

The workflows went on from what is written nowhere any more, so none of them can be trusted to go on: each is started
anew from where its row stands. Whatever the rows do not say was created may have been created, and is searched for
before anything is created again (docs/decisions/0028).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from overnight import contracts
from overnight.batches import BatchStatus
from overnight.campaign_contracts import WORKFLOW as CAMPAIGN
from overnight.campaign_contracts import workflow_id as campaign_workflow_id
from overnight.client import Overnight
from overnight.doctor.batches import reattach_campaign, start_again
from overnight.errors import TemporalError

FORGOTTEN = "restored"
"""The failure code of a batch that was submitted in the time which the database has lost."""

_SUBMITTED_SINCE = (
    "It was submitted, and the database was then restored to a moment before that. Look for it at the provider, cancel "
    "it there, and submit its entries anew."
)

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
    """One batch, or one campaign, after the restore."""

    batch_id: UUID | None = None
    campaign_id: UUID | None = None
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
    # First, so that none of them starts a batch again meanwhile.
    async for recovered in _each_campaign(overnight):
        yield recovered
    await _seal_parts(overnight)
    for batch in await overnight.store.batches.unfinished():
        await overnight.store.submissions.suspect(batch.id)
        await start_again(overnight, batch, conflict=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
        yield Recovered(batch_id=batch.id, fate=Fate.GOES_ON)
    for batch_id in await _submitted_since(overnight):
        yield Recovered(batch_id=batch_id, fate=Fate.CLOSED)
    known = overnight.store.batches.known
    for batch_id in await _without_row(overnight, contracts.WORKFLOW, "batch-", known):
        yield Recovered(batch_id=batch_id, fate=Fate.ROW_LOST)


async def _each_campaign(overnight: Overnight) -> AsyncIterator[Recovered]:
    """A campaign's workflow may have gone on to batches, and to a round, that no row is of: it begins anew, and finds
    in its rows which batches run.
    """
    for campaign in await overnight.store.campaigns.unfinished():
        await reattach_campaign(overnight, campaign, conflict=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
        yield Recovered(campaign_id=campaign.id, fate=Fate.GOES_ON)
    for campaign_id in await overnight.store.campaigns.unsealed():
        if await _was_submitted(overnight, campaign_workflow_id(campaign_id)):
            await _close_campaign(overnight, campaign_id)
            yield Recovered(campaign_id=campaign_id, fate=Fate.CLOSED)
    known = overnight.store.campaigns.known
    for campaign_id in await _without_row(overnight, CAMPAIGN, "campaign-", known):
        yield Recovered(campaign_id=campaign_id, fate=Fate.ROW_LOST)


async def _close_campaign(overnight: Overnight, campaign_id: UUID) -> None:
    close = overnight.store.campaigns.close
    closed = await close(campaign_id, code=FORGOTTEN, reason=_SUBMITTED_SINCE, seals=True)
    if closed.sealed_at is not None:  # its handler learns of it, and its batches are brought to their ends
        await reattach_campaign(overnight, closed)


async def _seal_parts(overnight: Overnight) -> None:
    """Of a campaign that was submitted the entries are known, whether or not its batches had begun: they go on."""
    for batch in await overnight.store.batches.unsealed():
        campaign = batch.campaign_id and await overnight.store.campaigns.get(batch.campaign_id)
        goes_on = campaign and campaign.sealed_at is not None and campaign.failure_code != FORGOTTEN
        if goes_on and await _was_submitted(overnight, contracts.workflow_id(batch.id)):
            await overnight.store.batches.seal(batch.id)


async def _submitted_since(overnight: Overnight) -> list[UUID]:
    """Batches that are open for further entries here, and that Temporal has a workflow of."""
    closed = []
    for batch in await overnight.store.batches.unsealed():
        if not await _was_submitted(overnight, contracts.workflow_id(batch.id)):
            continue
        await overnight.store.batches.close(batch.id, BatchStatus.FAILED, code=FORGOTTEN, reason=_SUBMITTED_SINCE)
        if batch.entry_count:  # its handler learns of it like of any other failure
            sealed, _ = await overnight.store.batches.seal(batch.id)
            await start_again(overnight, sealed)
        closed.append(batch.id)
    return closed


async def _was_submitted(overnight: Overnight, workflow_id: str) -> bool:
    """Whether there is such a workflow; it does not run any more."""
    handle: WorkflowHandle[object, object] = overnight.temporal.get_workflow_handle(workflow_id)
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


async def _without_row(
    overnight: Overnight, workflow: str, prefix: str, known: Callable[[Collection[UUID]], Awaitable[set[UUID]]]
) -> list[UUID]:
    """Workflows of what was created in the lost time. Batches that carry their entries along are left alone: they have
    no row before they have run.
    """
    query = f"WorkflowType = '{workflow}' and ExecutionStatus = 'Running'"
    running = {
        row_id
        async for found in overnight.temporal.list_workflows(query, page_size=_PAGE)
        if found.task_queue == overnight.settings.task_queue and (row_id := _row_id(found.id, prefix))
    }
    lost = running - await known(running)
    for row_id in lost:
        await _was_submitted(overnight, f"{prefix}{row_id}")
    return sorted(lost)


def _row_id(workflow_id: str, prefix: str) -> UUID | None:
    try:
        row_id = UUID(workflow_id.removeprefix(prefix))
    except ValueError:
        return None
    return row_id if f"{prefix}{row_id}" == workflow_id else None
