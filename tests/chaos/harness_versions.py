"""A later version of the workflow, as a developer would write it on the day of a change."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from overnight import contracts
    from overnight.contracts import BatchStart, BatchSummary, HydrateReport, OpenBatch
    from workflows import BatchWorkflow

VERSION = "CHAOS_VERSION"
"""Names a class of this module that a worker runs instead of the product's own workflow."""

_MOMENT = timedelta(milliseconds=10)


@workflow.defn(name=contracts.WORKFLOW)
class Guarded(BatchWorkflow):
    """New commands in every step, each behind `workflow.patched`: the way that decision 10 asks for."""

    @workflow.init
    def __init__(self, start: BatchStart | None = None) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: BatchStart | None = None) -> BatchSummary:
        return await super().run(start)

    async def _new_command(self, step: str) -> None:
        if workflow.patched(f"nap before {step}"):
            await workflow.sleep(_MOMENT, summary=f"new: before {step}")

    async def _submit(self, batch: OpenBatch) -> None:
        await self._new_command("submit")
        await super()._submit(batch)

    async def _poll(self, batch: OpenBatch) -> None:
        await self._new_command("poll")
        await super()._poll(batch)

    async def _ingest(self, batch: OpenBatch) -> None:
        await self._new_command("ingest")
        await super()._ingest(batch)

    async def _hydrate(self, batch: OpenBatch) -> HydrateReport:
        await self._new_command("hydrate")
        return await super()._hydrate(batch)

    async def _dispatch(self, batch: OpenBatch, summary: BatchSummary) -> None:
        await self._new_command("dispatch")
        await super()._dispatch(batch, summary)
