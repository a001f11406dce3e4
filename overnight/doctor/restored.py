"""After Postgres was restored to an earlier moment: Temporal and the providers know more than the database.

The workflows went on from what is written nowhere any more, so none of them can be trusted to go on: each is started
anew from where its row stands. Whatever the rows do not say was created may have been created, and is searched for
before anything is created again (docs/decisions/0028). The batches of a campaign come before the campaign itself, which
then finds them as they are.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from overnight import campaign_contracts, contracts
from overnight.batches import Batch, BatchStatus
from overnight.campaigns import Campaign
from overnight.client import Overnight
from overnight.doctor.batches import reattach_campaign, start_again
from overnight.errors import TemporalError
from overnight.storage.batches import FORGOTTEN

_PAGE = 500
_UUID_LENGTH = 36


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
    """Bring every batch and campaign that is in flight into a state from which it goes on, or say that it cannot.
    Workers must be stopped. Doing it again does no harm.

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
    campaigns = {campaign.id: campaign for campaign in await overnight.store.campaigns.unfinished()}
    for batch in await overnight.store.batches.unsealed():
        if await _ended(overnight.temporal.get_workflow_handle(contracts.workflow_id(batch.id))):
            campaign = campaigns.get(batch.campaign_id) if batch.campaign_id else None
            yield Recovered(batch_id=batch.id, fate=await _submitted_since(overnight, batch, campaign))
    for campaign in campaigns.values():
        await reattach_campaign(overnight, campaign, conflict=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
        yield Recovered(campaign_id=campaign.id, fate=Fate.GOES_ON)
    async for campaign_id in _campaigns_submitted_since(overnight):
        yield Recovered(campaign_id=campaign_id, fate=Fate.CLOSED)
    batches = _Rows(contracts.WORKFLOW, contracts.workflow_id, overnight.store.batches.known)
    for batch_id in await _lost(overnight, batches):
        yield Recovered(batch_id=batch_id, fate=Fate.ROW_LOST)
    others = _Rows(campaign_contracts.WORKFLOW, campaign_contracts.workflow_id, overnight.store.campaigns.known)
    for campaign_id in await _lost(overnight, others):
        yield Recovered(campaign_id=campaign_id, fate=Fate.ROW_LOST)


async def _submitted_since(overnight: Overnight, batch: Batch, campaign: Campaign | None) -> Fate:
    """A batch that was open for further entries here, and that Temporal had a workflow of. That of a campaign which is
    sealed has all its entries, and is not submitted by anybody but the campaign: what was sent is known.
    """
    if campaign is not None:
        sealed, _ = await overnight.store.batches.seal(batch.id)
        await overnight.store.submissions.suspect(batch.id, since=campaign.sealed_at)
        await start_again(overnight, sealed)
        return Fate.GOES_ON
    reason = (
        "It was submitted, and the database was then restored to a moment before that. Look for it at the "
        "provider, cancel it there, and submit its entries as a new batch."
    )
    closed = await overnight.store.batches.close(batch.id, BatchStatus.FAILED, code=FORGOTTEN, reason=reason, seal=True)
    await start_again(overnight, closed)  # its handler learns of it like of any other failure
    return Fate.CLOSED


async def _campaigns_submitted_since(overnight: Overnight) -> AsyncIterator[UUID]:
    """Campaigns that were open for further entries here, and that Temporal had a workflow of: what of them was not sent
    stays unsent.
    """
    for campaign_id in await overnight.store.campaigns.unsealed():
        handle = overnight.temporal.get_workflow_handle(campaign_contracts.workflow_id(campaign_id))
        if await _ended(handle):
            campaign, _ = await overnight.store.campaigns.seal(campaign_id)
            await overnight.store.campaigns.request_cancel(campaign_id)
            await reattach_campaign(overnight, campaign)
            yield campaign_id


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


class _Rows(NamedTuple):
    """Rows that have a workflow each."""

    workflow: str
    workflow_id: Callable[[UUID], str]
    known: Callable[[set[UUID]], Awaitable[set[UUID]]]


async def _lost(overnight: Overnight, rows: _Rows) -> list[UUID]:
    """Workflows of what was created in the lost time. Batches that carry their entries along are left alone: they have
    no row before they have run.
    """
    query = f"WorkflowType = '{rows.workflow}' and ExecutionStatus = 'Running'"
    running = {
        row_id: workflow.id
        async for workflow in overnight.temporal.list_workflows(query, page_size=_PAGE)
        if workflow.task_queue == overnight.settings.task_queue and (row_id := _row_id(workflow.id, rows))
    }
    lost = set(running) - await rows.known(set(running))
    for row_id in lost:
        await _ended(overnight.temporal.get_workflow_handle(running[row_id]))
    return sorted(lost)


def _row_id(workflow_id: str, rows: _Rows) -> UUID | None:
    try:
        row_id = UUID(workflow_id[-_UUID_LENGTH:])
    except ValueError:
        return None
    return row_id if rows.workflow_id(row_id) == workflow_id else None
