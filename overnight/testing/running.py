"""A handler and the entries it gets, without any server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar
from uuid import UUID

from overnight.batches import BatchStatus, Entry, Outcome
from overnight.errors import UsageError
from overnight.handlers import BatchHandler, handlers
from overnight.storage.detached import DetachedDispatch, detached_dispatch
from overnight.storage.dispatches import Connection
from overnight.tasks import Task, tasks
from overnight.testing.values import DEFAULT_MODEL, DEFAULT_PROVIDER, finished_batch

HandlerT = TypeVar("HandlerT", bound=BatchHandler)

_HOOKS = ("on_completion", "on_success", "on_failure")


@dataclass(frozen=True, kw_only=True)
class HandlerRun(Generic[HandlerT]):
    """What a handler did that ran to its end.

    Attributes:
        handler: the handler itself, with its batch and whatever it keeps.
        hooks: the hooks that ran, in their order.
        committed: whether what it wrote in `self.transaction()` is there to stay. On a connection that the test gave
            it is a part of the test's own transaction.
    """

    handler: HandlerT
    hooks: Sequence[str]
    committed: bool


async def run_handler(  # noqa: PLR0913 - what a handler can see of its batch, each with a default
    handler: type[HandlerT],
    entries: Iterable[Entry[Any]] = (),
    *,
    status: BatchStatus | str = BatchStatus.ENDED,
    metadata: Mapping[str, Any] | None = None,
    failure_code: str | None = None,
    failure_reason: str | None = None,
    provider: str = DEFAULT_PROVIDER,
    model: str = DEFAULT_MODEL,
    database: object | None = None,
    overnight: object | None = None,
) -> HandlerRun[HandlerT]:
    """Run a handler as a worker runs it once a batch is over: `on_completion`, then one of the other two hooks::

        entry = await answer(Classify(review="Works."), {"label": "good"})
        run = await run_handler(SaveSentiments, [entry], database=engine)
        assert run.hooks == ["on_completion", "on_success"]

    What the handler raises comes out as it is, and nothing that it wrote in `self.transaction()` remains.

    Args:
        handler: the class.
        entries: what `self.entries()` gives, best made by `answer()`.
        status: how the batch ended.
        metadata: the batch's.
        failure_code: the batch's, as is `failure_reason`.
        failure_reason: "
        provider: the batch's.
        model: the batch's.
        database: where `self.transaction()` writes: SQLAlchemy's asynchronous engine, on which the run commits; its
            asynchronous connection, on which everything stays within the transaction that the test began there; or an
            object of the test's own that has the methods which the handler calls.
        overnight: what `self.overnight` is, for handlers that create further batches: a client, or a stand-in for one.

    Raises:
        UnknownHandlerError: the class has no name under which a worker could find it.
        AmbiguousNameError: another handler class has the same name.
        UsageError: the handler opened a transaction and `database` is None, or it called `commit()`, or it asked for
            `self.overnight` and there is none.
    """
    given = list(entries)
    batch = finished_batch(
        given,
        provider=provider,
        model=model,
        status=status,
        handler=handlers.name_of(handler),
        metadata=metadata,
        failure_code=failure_code,
        failure_reason=failure_reason,
    )
    dispatch = detached_dispatch(database, batch.id)
    instance = handler(batch, _Dispatched(given, dispatch, overnight))
    hooks = _listen(instance)
    try:
        await instance.handle()
        await dispatch.commit()
    finally:
        await dispatch.aclose()
    return HandlerRun(handler=instance, hooks=hooks, committed=dispatch.is_permanent)


class _Dispatched:
    """What the handler stands on."""

    def __init__(self, entries: Sequence[Entry[Any]], dispatch: DetachedDispatch, overnight: object | None) -> None:
        self._entries, self._dispatch, self._overnight = entries, dispatch, overnight

    @property
    def overnight(self) -> Any:
        if self._overnight is None:
            raise UsageError(
                "The handler asked for `self.overnight`, and this test has no client for it. Pass one, or an object of "
                "your own that has the methods which the handler calls: run_handler(..., overnight=client)."
            )
        return self._overnight

    async def entries(
        self, _batch_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        wanted = tasks.name_of(task) if task else None
        for entry in self._entries:
            fits = wanted is None or (entry.task is not None and tasks.name_of(type(entry.task)) == wanted)
            if fits and (outcomes is None or entry.outcome in outcomes):
                yield entry

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self._dispatch.transaction()


def _listen(handler: BatchHandler) -> list[str]:
    """Note the hooks of this one instance as they begin."""
    heard: list[str] = []

    def noted(name: str, hook: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        @wraps(hook)
        async def run() -> None:
            heard.append(name)
            await hook()

        return run

    for name in _HOOKS:
        setattr(handler, name, noted(name, getattr(handler, name)))
    return heard
