"""Workflows of a user's own that run batches as children."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from uuid import UUID

    from overnight.child import run_batch
    from overnight.contracts import BatchSpec, BatchSummary


@workflow.defn
class Nightly:
    @workflow.run
    async def run(self, batch_id: UUID, task_queue: str) -> BatchSummary:
        return await run_batch(batch_id, task_queue=task_queue)


@workflow.defn
class Inline:
    @workflow.run
    async def run(self, spec: BatchSpec, task_queue: str) -> BatchSummary:
        return await run_batch(spec, task_queue=task_queue)


@workflow.defn
class ByName:
    """Without anything of ours, as in any language."""

    @workflow.run
    async def run(self, batch_id: str, task_queue: str) -> Any:
        return await workflow.execute_child_workflow(
            "Batch", {"batch_id": batch_id}, id=f"mine-{batch_id}", task_queue=task_queue
        )


@workflow.defn
class Forgiving:
    @workflow.run
    async def run(self, batch_id: UUID, task_queue: str) -> str:
        try:
            await run_batch(batch_id, task_queue=task_queue)
        except ChildWorkflowError as error:
            return str(error.cause and error.cause.__cause__)
        return "fine"
