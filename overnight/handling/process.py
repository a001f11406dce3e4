"""A process that works: from its settings to its orderly end, whatever it has on its task queue."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from temporalio.client import Client
from temporalio.worker import Worker

from overnight.handling import Services, handler_activities
from overnight.log_events import LogEvent
from overnight.metrics import runtime_of, sample
from overnight.notifiers import notifiers_from
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import check_namespace, connect_temporal

logger = logging.getLogger(__name__)

HANDLERS_READY = "handlers are ready"

# Time for an upload's page or an ingested block to be finished and committed; whatever is longer goes on elsewhere.
DRAIN = timedelta(seconds=10)

# Of the connections that the pool has (overnight/storage/database.py), a bulk step holds up to two while it asks for
# another one: a handler one for its transaction and one for a batch that it fills, while entries come over a third,
# page by page. A short step holds at most one while it asks for another. Were all connections held by such as ask for
# more, nobody would go on; so 2 * BULK_AT_ONCE + SHORT_AT_ONCE is less than there are.
BULK_AT_ONCE = 18
SHORT_AT_ONCE = 30

# Where nothing else runs.
HANDLERS_AT_ONCE = 30


class Workers:
    """The workers of one process: up together, and drained together."""

    def __init__(self, *workers: Worker) -> None:
        self._workers = workers
        self._exits = contextlib.AsyncExitStack()

    @property
    def task_queues(self) -> Sequence[str]:
        return [worker.task_queue for worker in self._workers]

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as entered:
            for worker in self._workers:
                await entered.enter_async_context(worker)
            self._exits = entered.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        # At once, or each would have its own time to drain after the one before it.
        await asyncio.gather(*(worker.shutdown() for worker in self._workers))
        return await self._exits.__aexit__(kind, error, trace)


async def work_until_stopped(
    services: Services, compose: Callable[[Client], Workers], *, ready: str, samples: bool = False
) -> None:
    """Work until SIGINT or SIGTERM, then finish what is short.

    Args:
        services: what the activities stand on.
        compose: makes the workers.
        ready: what is logged once they work.
        samples: also read the gauges from the database, if metrics are wanted.

    Raises:
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await services.store.check()
        client = await connect_temporal(services.settings, runtime=runtime_of(services.settings))
        await check_namespace(client)
        async with compose(client) as workers:
            # What is there by now stays. Full collections that walk through it take a tenth of a second each, in which
            # nothing else happens; without it they take a fifth of that.
            gc.freeze()
            task_queues = ", ".join(workers.task_queues)
            logger.info(
                "%s: task queue %s, namespace %s",
                ready,
                task_queues,
                client.namespace,
                extra={"event": LogEvent.WORKER_READY},
            )
            async with _sampling(services, client) if samples else contextlib.nullcontext():
                await stopped.wait()
            logger.info(
                "stopping: finishing what is short, handing over the rest", extra={"event": LogEvent.WORKER_STOPPING}
            )
    finally:
        await services.aclose()
        await asyncio.sleep(0.05)  # temporalio's threads must be done before the interpreter is (sdk-python issue 300)


@contextlib.asynccontextmanager
async def _sampling(services: Services, client: Client) -> AsyncIterator[None]:
    if services.settings.metrics_address is None:
        yield
        return
    task = asyncio.create_task(sample(services.store, client))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def handler_worker(client: Client, services: Services, task_queue: str) -> Worker:
    """A worker for the user's code alone: no workflow, no provider, no key."""
    return Worker(
        client,
        task_queue=task_queue,
        activities=handler_activities(services),
        max_concurrent_activities=HANDLERS_AT_ONCE,
        graceful_shutdown_timeout=DRAIN,
    )


async def serve_handlers(settings: Settings, task_queue: str) -> None:
    """Hydrate and dispatch the batches whose `handler_task_queue` this is, until SIGINT or SIGTERM.

    Raises:
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    # Keys stay where batches are submitted; a handler that creates a further batch is not asked for one either.
    settings = settings.model_copy(update={"keys_in_worker_only": True})
    services = Services(settings, Store.from_settings(settings), notifiers_from(settings))
    await work_until_stopped(
        services, lambda client: Workers(handler_worker(client, services, task_queue)), ready=HANDLERS_READY
    )
