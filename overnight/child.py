"""A batch as the child of a workflow of your own.

::

    @workflow.defn
    class Nightly:
        @workflow.run
        async def run(self, batch_id: UUID) -> Decimal | None:
            summary = await run_batch(batch_id)
            return summary.cost

The module is safe to import in workflow code (let `overnight` pass through the sandbox, see `temporalio`'s
`SandboxRestrictions`), and needs Temporal's `pydantic_data_converter` on the client that your worker uses. Without
either, the same is `workflow.execute_child_workflow("Batch", {"batch_id": "..."}, ...)` with the options below.

Two of those options are about money. A batch that is terminated runs on at the provider, is billed, and nobody reads
what came of it, until `overnight doctor --fix`:

* `parent_close_policy`: Temporal's default is TERMINATE. Here it is ABANDON, so that the batch runs to its end when
  your workflow fails, times out or is terminated. REQUEST_CANCEL is the other sound choice: the provider is asked to
  cancel, and what was answered by then is paid, read and handled.
* `cancellation_type`: a cancellation of your workflow reaches the batch, which asks the provider to cancel and reads
  what there is. WAIT_CANCELLATION_COMPLETED waits for that, up to the batch's max age, and returns its summary, with
  the status `canceled`; the cancellation is then yours to carry on.
"""

from uuid import UUID

from temporalio import workflow
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from overnight import contracts
from overnight.contracts import BatchSpec, BatchStart, BatchSummary


async def run_batch(
    batch: UUID | BatchSpec,
    *,
    id: str | None = None,  # noqa: A002 - as temporalio has it
    task_queue: str = "overnight",
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.ABANDON,
) -> BatchSummary:
    """Run a batch as a child of the present workflow, to its end, its handler included.

    Args:
        batch: the id of a pending batch with entries, or a whole small one, which then travels through the history.
        id: of the child workflow; by default the one that `BatchHandle.submit` would use, or, for a spec, a fresh one.
        task_queue: where the batches of the deployment run (OVERNIGHT_TASK_QUEUE).
        parent_close_policy: what becomes of the batch when the present workflow ends before it.

    Raises:
        ChildWorkflowError: the batch cannot be started like this; the last of its causes says why. A batch that is
            canceled, expired or failed raises nothing: that is the summary's status.
    """
    start = BatchStart(batch_id=batch) if isinstance(batch, UUID) else BatchStart(spec=batch)
    summary: BatchSummary = await workflow.execute_child_workflow(
        contracts.WORKFLOW,
        start,
        id=id or (contracts.workflow_id(batch) if isinstance(batch, UUID) else None),
        task_queue=task_queue,
        result_type=BatchSummary,
        cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        parent_close_policy=parent_close_policy,
    )
    return summary
