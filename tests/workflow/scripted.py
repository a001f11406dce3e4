"""What the stages of both workflows have in common: scripted activities, and a note of every call."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from overnight.contracts import RETRY_HANDLER, SKIP_HANDLER, DispatchReport, DispatchRequest


@dataclass
class Scripted:
    """A script, and what was called when, by the workflow's time."""

    environment: WorkflowEnvironment
    opened: dict[str, Any] = field(default_factory=dict)
    """What the first activity says differently from what is fresh."""
    handler_failures: int = 0
    calls: list[tuple[str, datetime]] = field(default_factory=list)
    queue: str = field(default_factory=lambda: f"stage-{uuid.uuid4()}")

    @property
    def users_queue(self) -> str:
        return f"{self.queue}-users"

    def names(self) -> list[str]:
        """The calls in order, a run of the same counted once."""
        names: list[str] = []
        for name, _ in self.calls:
            if names[-1:] != [name]:
                names.append(name)
        return names

    def handler_runs(self) -> int:
        return [name for name, _ in self.calls].count("dispatch_handler")

    async def order_handler_run_again_and_skipped(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Each order once the handler has failed anew."""
        for order in (RETRY_HANDLER, SKIP_HANDLER):
            runs = self.handler_runs()
            while self.handler_runs() <= runs:
                await asyncio.sleep(0.01)
            await handle.signal(order)

    async def _note(self, name: str) -> datetime:
        now = (await self.environment.get_current_time()).astimezone(UTC)
        self.calls.append((name, now))
        return now

    @activity.defn(name="dispatch_handler")
    async def dispatch_handler(self, request: DispatchRequest) -> DispatchReport:
        await self._note("skip_handler" if request.skip else "dispatch_handler")
        if self.handler_failures and not request.skip:
            self.handler_failures -= 1
            raise ApplicationError("RuntimeError at handlers.py:1", type="RuntimeError")
        return DispatchReport(ran=not request.skip)
