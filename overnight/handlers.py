"""BatchHandler and CampaignHandler: what happens once a batch, or a campaign, is terminal."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from overnight.batches import Batch, Entry, Outcome
from overnight.campaigns import Campaign
from overnight.errors import UnknownHandlerError
from overnight.reading import HasEntries
from overnight.registry import Names
from overnight.storage.dispatches import Connection
from overnight.tasks import Task

if TYPE_CHECKING:
    from overnight.client import Overnight

HandlerT = TypeVar("HandlerT", bound="Handler")


class Dispatched(Protocol):
    """What a handler stands on: the entries, the transaction of its effects, and a client."""

    @property
    def overnight(self) -> "Overnight":
        """A client on the servers of the worker."""
        ...

    def entries(
        self, subject_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        """Stream entries."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """Join the dispatch transaction."""
        ...


class Handler(HasEntries):
    """What the handlers of batches and of campaigns have in common: hooks, entries, and one transaction."""

    def __init__(self, subject: Batch | Campaign, dispatched: Dispatched) -> None:
        self._subject, self._dispatched = subject, dispatched

    def __init_subclass__(cls, *, name: str | None = None, is_base: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not is_base:
            handlers.register(cls, name)

    async def handle(self) -> None:
        """The order of the three hooks; override it for anything else."""
        await self.on_completion()
        if self._subject.status.is_success:
            await self.on_success()
        else:
            await self.on_failure()

    async def on_completion(self) -> None:
        """The batch or campaign is over."""

    async def on_success(self) -> None:
        """It ended; single entries may still have failed."""

    async def on_failure(self) -> None:
        """It was canceled, expired or failed; its `failure_reason` says why."""

    def _stream_entries(
        self, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return self._dispatched.entries(self._subject.id, task, outcomes)

    @property
    def overnight(self) -> "Overnight":
        """A client on the worker's own connections: for the next batch or campaign, or a retry.

        A handler may be run again, so each batch, retry and campaign that it creates has a key; by default they are
        counted. The handler must create them in the same order each time then, and with keys it need not::

            following = await self.overnight.create_batch(provider=..., model=..., handler=Publish, key="translations")
            await following.add_all(Translate(text=entry.output) async for entry in self.entries(Summarize))
            await following.submit()

        Creating and submitting are no parts of `self.transaction()`: what was submitted stays so if the handler raises
        later, and is not submitted again when it is run again. Nothing here waits for the next batch: `wait` would keep
        the handler running for a day, where a handler of the next batch's own does not.
        """
        return self._dispatched.overnight

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """The transaction that commits together with the note that this handler has run.

        It is opened at the first use, and all uses are parts of the same one; an exception that leaves the block
        undoes what the block did. It holds a lock on the row of the batch or campaign, so keep slow work outside.
        """
        return self._dispatched.transaction()


class BatchHandler(Handler, is_base=True):
    """What happens once a batch is terminal, whichever way it ended.

    `on_completion` runs first, then exactly one of `on_success` (the batch `ended`) and `on_failure` (`canceled`,
    `expired` or `failed`). Results are stored and every entry has its outcome before any of them runs, and after a
    failed batch there may be results as well.

    Attributes:
        batch: the batch, with everything that is known of it: `status`, entries per outcome in `outcomes`, `usage`,
            `cost`, your own `metadata`, `failure_reason`, and for how long it was `waited`.

    What is written on the connection of `self.transaction()` commits together with the note that the handler has run:
    exactly once. Anything else (mail, HTTP calls, other databases) happens at least once, because a process can die
    after it and before the note; use `self.batch.id` as the idempotency key there. A handler that raises is run again,
    after growing waits, until it succeeds.

    The class is registered under its name, or another: `class Save(BatchHandler, name="save")`.
    """

    def __init__(self, batch: Batch, dispatched: Dispatched) -> None:
        super().__init__(batch, dispatched)
        self.batch = batch


class CampaignHandler(Handler, is_base=True):
    """What happens once a campaign is over, over all entries of all its batches: what a `BatchHandler` is to a batch.

    The hooks and their promises are the same, with `self.campaign.id` as the idempotency key. `self.entries()` yields
    each entry once, with its latest attempt; what came of earlier rounds is in `entry.earlier`.
    """

    def __init__(self, campaign: Campaign, dispatched: Dispatched) -> None:
        super().__init__(campaign, dispatched)
        self.campaign = campaign


handlers: Names[Handler] = Names("handler", UnknownHandlerError)
"""All handler classes that were imported in this process."""


def batch_handlers(name: str) -> type[BatchHandler]:
    """The batch handler of a name.

    Raises:
        UnknownHandlerError: there is none, or it is one for campaigns.
    """
    return _of_kind(name, BatchHandler)


def campaign_handlers(name: str) -> type[CampaignHandler]:
    """The campaign handler of a name.

    Raises:
        UnknownHandlerError: there is none, or it is one for batches.
    """
    return _of_kind(name, CampaignHandler)


def _of_kind(name: str, kind: type[HandlerT]) -> type[HandlerT]:
    cls = handlers.resolve(name)
    if not issubclass(cls, kind):
        raise UnknownHandlerError(kind.__name__, name, f"The class of this name is no {kind.__name__}: derive one.")
    return cls
