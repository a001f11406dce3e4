"""What the handles of batches and of campaigns have in common: the workflow behind them."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from overnight import contracts
from overnight.batches import Batch
from overnight.campaigns import Campaign
from overnight.errors import BatchClosedError, TemporalError, UsageError
from overnight.intake import Item, Items, iterate
from overnight.reading import HasEntries

if TYPE_CHECKING:
    from overnight.client import Overnight

SubjectT = TypeVar("SubjectT", bound=Batch | Campaign)


class Handle(HasEntries, Generic[SubjectT]):
    """Something that is filled with entries, and that a workflow looks after."""

    _what: ClassVar[str]

    def __init__(self, overnight: "Overnight", subject_id: UUID) -> None:
        self._overnight, self._store, self._settings = overnight, overnight.store, overnight.settings
        self.id = subject_id

    async def get(self) -> SubjectT:
        """What the database knows of it now."""
        raise NotImplementedError

    async def add(self, item: Item, *, custom_id: str | None = None) -> None:
        """Add one entry. For many, `add_all` is far quicker.

        Args:
            item: a Task, or a RawRequest.
            custom_id: what results are matched by; by default the Task's name and a number.

        Raises:
            UsageError: of the kind that says what is wrong. Nothing was added.
        """
        await self.add_all([item], custom_id=lambda _: custom_id)

    async def add_all(self, items: Items, *, custom_id: Callable[[Any], str | None] | None = None) -> int:
        """Add many entries, or, if anything is wrong with any of them, none; returns how many."""
        raise NotImplementedError

    async def submit(self) -> None:
        """Hand it over: from here on its workflow looks after it, and no entry can be added."""
        raise NotImplementedError

    async def wait(self) -> SubjectT:
        """Wait until it is over and its handler has run, and return it.

        Raises:
            TemporalError: the workflow was terminated, or Temporal does not answer.
        """
        await self._finish()
        return await self.get()

    async def poll_now(self) -> None:
        """Have it looked at now instead of at the next scheduled time.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
            UsageError: it is over, and handled.
        """
        await self._signal(contracts.POLL_NOW)

    async def retry_handler(self) -> None:
        """Run a handler that keeps failing again now.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
            UsageError: it is over, and handled.
        """
        await self._signal(contracts.RETRY_HANDLER)

    async def skip_handler(self) -> None:
        """Let it finish without its handler, or without running it again.

        Raises:
            TemporalError: there is no such workflow, or Temporal does not answer.
            UsageError: it is over, and handled.
        """
        await self._signal(contracts.SKIP_HANDLER)

    def _own_workflow_id(self) -> str:
        """Of the workflow that it has, unless somebody else started another for it."""
        raise NotImplementedError

    async def _workflow(self) -> WorkflowHandle[Any, Any]:
        workflow_id = (await self.get()).workflow_id or self._own_workflow_id()
        return self._overnight.temporal.get_workflow_handle(workflow_id)

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
            if error.status is RPCStatusCode.NOT_FOUND and (await self.get()).handler_dispatched_at:
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
            if error.status is RPCStatusCode.NOT_FOUND and (await self.get()).handler_dispatched_at:
                what = f"{self._what.capitalize()} {self.id}"
                raise UsageError(f"{what} is over, and its handler has run: {name} comes too late.") from None
            text = f"The workflow of {self._what} {self.id} cannot be told to {name}: {error.message}"
            raise TemporalError(text) from None


class Submitted(Handle[SubjectT]):
    """What an earlier run of the same code has filled and handed over: doing that again is done already."""

    async def add_all(self, items: Items, *, custom_id: Callable[[Any], str | None] | None = None) -> int:  # noqa: ARG002 - nothing is added
        return sum([1 async for _ in iterate(items)])

    async def submit(self) -> None:
        # Where that run died before the workflow was started, it is started now.
        with suppress(BatchClosedError):
            await super().submit()
