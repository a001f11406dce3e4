"""Stored entries back into typed ones."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, TypeVar, overload
from uuid import UUID

from pydantic import ValidationError

from overnight.batches import Entry, Outcome
from overnight.storage.outputs import StoredEntry
from overnight.storage.store import Store
from overnight.tasks import Task, tasks
from overnight.tools import load_calls

OutputT = TypeVar("OutputT")
Reader = Callable[[Store, UUID, type[Task[Any]] | None, Collection[Outcome] | None], AsyncIterator[Entry[Any]]]
"""Streams the entries of a batch, or of a campaign."""


class HasEntries:
    """What entries are read from: the handles of batches and campaigns, and their handlers."""

    def _stream_entries(
        self, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        raise NotImplementedError

    @overload
    def entries(
        self, task: type[Task[OutputT]], *, outcomes: Collection[Outcome] | None = None
    ) -> AsyncIterator[Entry[OutputT]]: ...

    @overload
    def entries(
        self, task: None = None, *, outcomes: Collection[Outcome] | None = None
    ) -> AsyncIterator[Entry[Any]]: ...

    def entries(
        self, task: type[Task[Any]] | None = None, *, outcomes: Collection[Outcome] | None = None
    ) -> AsyncIterator[Entry[Any]]:
        """Stream the entries in the order of adding, with what is known of them by now; they need not fit in memory.

        A campaign's come once each, with their latest attempt, those that were asked again after all others;
        `entry.earlier` has what came of them in earlier rounds.

        Args:
            task: only entries of this Task, with its type of output.
            outcomes: only entries with one of these outcomes.
        """
        return self._stream_entries(task, outcomes)


def entry_of(stored: StoredEntry, earlier: Sequence[StoredEntry] = ()) -> Entry[Any]:
    """The entry, and what came of it in earlier rounds, with its task and output as the Task's own types.

    Raises:
        UnknownTaskError: the Task's class is not registered in this process.
    """
    task = tasks.resolve(stored.task) if stored.task else None
    return Entry(
        custom_id=stored.custom_id,
        outcome=stored.outcome,
        task=_task_of(stored, task) if task and stored.fields else None,
        output_or_none=task.load_output(stored.output) if task and stored.output is not None else None,
        error_code=stored.error_code,
        reason=stored.reason,
        usage=stored.usage,
        cost=stored.cost,
        response=stored.line,
        tool_calls=load_calls(stored.tool_calls),
        earlier=[entry_of(attempt) for attempt in earlier],
    )


def _task_of(stored: StoredEntry, task: type[Task[Any]]) -> Task[Any] | None:
    """The task again; None where its class has changed so much since that the entry could not succeed any more."""
    try:
        return task.load_fields(stored.fields or "{}")
    except ValidationError:
        if stored.outcome is Outcome.SUCCEEDED:
            raise
        return None


async def entries(
    store: Store, batch_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
) -> AsyncIterator[Entry[Any]]:
    """Stream a batch's entries in the order of adding.

    Args:
        store: where they are.
        batch_id: of which batch.
        task: only entries of this Task.
        outcomes: only entries with one of these outcomes.
    """
    wanted = tasks.name_of(task) if task else None
    async for page in store.outputs.pages(batch_id, outcomes=outcomes, task=wanted):
        for stored in page:
            yield entry_of(stored)


async def campaign_entries(
    store: Store, campaign_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
) -> AsyncIterator[Entry[Any]]:
    """Stream a campaign's entries, each with its latest attempt, and the earlier ones within it: in the order of
    adding, those that were asked again after all others.

    Args:
        store: where they are.
        campaign_id: of which campaign.
        task: only entries of this Task.
        outcomes: only entries whose latest attempt has one of these outcomes.
    """
    wanted = tasks.name_of(task) if task else None
    for batch in await store.campaigns.batches(campaign_id):
        latest = bool(batch.retried)
        async for page in store.outputs.pages(batch.id, outcomes=outcomes, task=wanted, latest=latest):
            is_first = batch.round == 1
            earlier = {} if is_first else await store.outputs.earlier(batch.id, [stored.position for stored in page])
            for stored in page:
                yield entry_of(stored, earlier.get(stored.position, ()))
