"""Batches that nobody looks after any more, found and given back to a workflow.

A batch is orphaned when its workflow was terminated, or lost together with Temporal's database. Every step of the
workflow asks the database first what is done already, so putting it right means starting the workflow again.
"""

from dataclasses import dataclass
from enum import StrEnum

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from overnight import contracts
from overnight.batches import Batch
from overnight.client import Overnight
from overnight.contracts import BatchStart
from overnight.errors import TemporalError


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
        if (problem := await _problem(overnight.temporal, batch)) is not None
    ]
    helped = {finding.batch.id for finding in findings}
    for batch_id in await overnight.store.submissions.batches_in_doubt():
        batch = await overnight.store.batches.get(batch_id)
        if batch_id not in helped and batch.handler_dispatched_at is not None:
            findings.append(Finding(batch=batch, problem=Problem.SUBMISSION_IN_DOUBT))
    return findings


async def _problem(temporal: Client, batch: Batch) -> Problem | None:
    handle = temporal.get_workflow_handle(_workflow_id(batch))
    try:
        status = (await handle.describe()).status
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return Problem.NO_WORKFLOW
        raise TemporalError(f"Temporal cannot say how batch {batch.id} is: {error.message}") from None
    return None if status is WorkflowExecutionStatus.RUNNING else Problem.WORKFLOW_CLOSED


def _workflow_id(batch: Batch) -> str:
    return batch.workflow_id or contracts.workflow_id(batch.id)


async def reattach(overnight: Overnight, finding: Finding, *, cancel: bool = False) -> None:
    """Start the batch's workflow again; it goes on where the batch stands, and with `cancel` cancels it first.

    Raises:
        TemporalError: Temporal does not answer.
    """
    batch = finding.batch
    try:
        await overnight.temporal.start_workflow(
            contracts.WORKFLOW,
            BatchStart(batch_id=batch.id),
            id=_workflow_id(batch),
            task_queue=overnight.settings.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=contracts.CANCEL if cancel else None,
            static_summary=f"{batch.entry_count} entries for {batch.model} (re-attached)",
        )
    except RPCError as error:
        raise TemporalError(f"The workflow of batch {batch.id} could not be started: {error.message}") from None
