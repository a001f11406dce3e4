"""What the handles of batches and of campaigns have in common: the workflow behind them."""

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from overnight import contracts
from overnight.errors import BatchClosedError, TemporalError

if TYPE_CHECKING:
    from overnight.client import Overnight


class Handle:
    """Something that a workflow looks after."""

    _what: ClassVar[str]

    def __init__(self, overnight: "Overnight", subject_id: UUID) -> None:
        self._overnight, self._store, self._settings = overnight, overnight.store, overnight.settings
        self.id = subject_id

    async def poll_now(self) -> None:
        """Have it looked at now instead of at the next scheduled time.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
        """
        await self._signal(contracts.POLL_NOW)

    async def retry_handler(self) -> None:
        """Run a handler that keeps failing again now.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
        """
        await self._signal(contracts.RETRY_HANDLER)

    async def skip_handler(self) -> None:
        """Let it finish without its handler, or without running it again.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
        """
        await self._signal(contracts.SKIP_HANDLER)

    async def _workflow_id(self) -> str:
        raise NotImplementedError

    async def _is_handled(self) -> bool:
        raise NotImplementedError

    async def _workflow(self) -> WorkflowHandle[Any, Any]:
        return self._overnight.temporal.get_workflow_handle(await self._workflow_id())

    async def _start(  # noqa: PLR0913 - what a workflow is started with
        self,
        workflow: str,
        start: BaseModel,
        *,
        workflow_id: str,
        first: bool,
        summary: str,
        details: str | None = None,
    ) -> None:
        # Whoever sealed it is content with any workflow of this id: it can only be the right one.
        conflict = WorkflowIDConflictPolicy.USE_EXISTING if first else WorkflowIDConflictPolicy.FAIL
        try:
            await self._overnight.temporal.start_workflow(
                workflow,
                start,
                id=workflow_id,
                task_queue=self._settings.task_queue,
                id_conflict_policy=conflict,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                static_summary=summary,
                static_details=details,
            )
        except WorkflowAlreadyStartedError:
            raise BatchClosedError(self.id, "submit", what=self._what) from None
        except RPCError as error:
            raise TemporalError(
                f"{self._what.capitalize()} {self.id} is sealed but its workflow could not be started: "
                f"{error.message}. Submit it again."
            ) from None

    async def _finish(self) -> None:
        try:
            await (await self._workflow()).result()
        except WorkflowFailureError as error:
            raise TemporalError(f"The workflow of {self._what} {self.id} did not finish: {error.cause}") from None
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND and await self._is_handled():
                return  # Temporal has forgotten the workflow, which is long over.
            raise TemporalError(f"Cannot wait for {self._what} {self.id}: {error.message}") from None

    async def _query(self, kind: type[Any]) -> Any:
        try:
            answer = await (await self._workflow()).query(contracts.PROGRESS, result_type=kind)
        except RPCError as error:
            raise TemporalError(f"The workflow of {self._what} {self.id} does not answer: {error.message}") from None
        return kind.model_validate(answer)

    async def _signal(self, name: str) -> None:
        try:
            await (await self._workflow()).signal(name)
        except RPCError as error:
            text = f"The workflow of {self._what} {self.id} cannot be told to {name}: {error.message}"
            raise TemporalError(text) from None
