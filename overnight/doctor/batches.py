"""Batches and campaigns that nobody looks after any more, found and given back to a workflow.

A batch is orphaned when its workflow was terminated, or lost together with Temporal's database. Every step of the
workflow asks the database first what is done already, so putting it right means starting the workflow again.
"""

from dataclasses import dataclass
from enum import StrEnum

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from overnight import campaign_contracts, contracts
from overnight.batches import Batch
from overnight.campaign_contracts import CampaignStart
from overnight.campaigns import Campaign
from overnight.client import Overnight
from overnight.contracts import BatchStart
from overnight.errors import TemporalError
from overnight.temporal import status_of


class Problem(StrEnum):
    """Why a batch needs help."""

    NO_WORKFLOW = "no_workflow"
    """It was submitted, is not finished, and Temporal knows no workflow of its."""
    WORKFLOW_CLOSED = "workflow_closed"
    """Its workflow was terminated or failed before the batch was finished."""
    SUBMISSION_IN_DOUBT = "submission_in_doubt"
    """A submission that was given up may have made a provider batch that nobody owns."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One batch that needs help."""

    batch: Batch
    problem: Problem


async def examine(overnight: Overnight) -> list[Finding]:
    """Find every batch that needs help.

    Raises:
        TemporalError: Temporal does not answer.
    """
    findings = [
        Finding(batch=batch, problem=problem)
        for batch in await overnight.store.batches.unfinished()
        if (problem := await _problem(overnight.temporal, _workflow_id(batch))) is not None
    ]
    helped = {finding.batch.id for finding in findings}
    for batch_id in await overnight.store.submissions.batches_in_doubt():
        batch = await overnight.store.batches.get(batch_id)
        if batch_id not in helped and batch.handler_dispatched_at is not None:
            findings.append(Finding(batch=batch, problem=Problem.SUBMISSION_IN_DOUBT))
    return findings


async def lost_campaigns(overnight: Overnight) -> list[Campaign]:
    """Find every campaign that was submitted, is not finished, and has no workflow that runs.

    Its batches may have theirs all the same, and are found by `examine` where they have not.

    Raises:
        TemporalError: Temporal does not answer.
    """
    return [
        campaign
        for campaign in await overnight.store.campaigns.unfinished()
        if await _problem(overnight.temporal, _campaign_workflow_id(campaign)) is not None
    ]


async def _problem(temporal: Client, workflow_id: str) -> Problem | None:
    status = await status_of(temporal, workflow_id)
    if status is None:
        return Problem.NO_WORKFLOW
    return None if status is WorkflowExecutionStatus.RUNNING else Problem.WORKFLOW_CLOSED


def _workflow_id(batch: Batch) -> str:
    return batch.workflow_id or contracts.workflow_id(batch.id)


def _campaign_workflow_id(campaign: Campaign) -> str:
    return campaign.workflow_id or campaign_contracts.workflow_id(campaign.id)


async def reattach(overnight: Overnight, finding: Finding, *, cancel: bool = False) -> None:
    """Start the batch's workflow again; it goes on where the batch stands, and with `cancel` cancels it first.

    Raises:
        TemporalError: Temporal does not answer.
    """
    await start_again(overnight, finding.batch, cancel=cancel)


async def start_again(
    overnight: Overnight,
    batch: Batch,
    *,
    cancel: bool = False,
    conflict: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
) -> None:
    """Start the batch's workflow, whatever became of earlier ones.

    Raises:
        TemporalError: Temporal does not answer.
    """
    start, name = BatchStart(batch_id=batch.id), _workflow_id(batch)
    await _start(overnight, contracts.WORKFLOW, start, batch, workflow_id=name, cancel=cancel, conflict=conflict)


async def reattach_campaign(
    overnight: Overnight,
    campaign: Campaign,
    *,
    cancel: bool = False,
    conflict: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
) -> None:
    """The same for a campaign: it finds again which of its batches run.

    Raises:
        TemporalError: Temporal does not answer.
    """
    start, name, kind = (
        CampaignStart(campaign_id=campaign.id),
        _campaign_workflow_id(campaign),
        campaign_contracts.WORKFLOW,
    )
    await _start(overnight, kind, start, campaign, workflow_id=name, cancel=cancel, conflict=conflict)


async def _start(  # noqa: PLR0913 - what a workflow is started with
    overnight: Overnight,
    workflow: str,
    start: BatchStart | CampaignStart,
    of: Batch | Campaign,
    *,
    workflow_id: str,
    cancel: bool,
    conflict: WorkflowIDConflictPolicy,
) -> None:
    try:
        await overnight.temporal.start_workflow(
            workflow,
            start,
            id=workflow_id,
            task_queue=overnight.settings.task_queue,
            id_conflict_policy=conflict,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=contracts.CANCEL if cancel else None,
            static_summary=f"{of.entry_count} entries for {of.model} (re-attached)",
        )
    except RPCError as error:
        raise TemporalError(f"Workflow {workflow_id} could not be started: {error.message}") from None
