"""A process that works: from its settings to its orderly end, whatever it has on its task queue."""

import asyncio
import logging
import signal
from collections.abc import Callable
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from overnight.handling import Services, handler_activities
from overnight.notifiers import notifiers_from
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import check_namespace, connect_temporal

logger = logging.getLogger(__name__)

HANDLERS_READY = "handlers are ready"

# Time for an upload's page or an ingested block to be finished and committed; whatever is longer goes on elsewhere.
DRAIN = timedelta(seconds=10)

# Less than half of what the pool has of connections (overnight/storage/database.py): a handler holds one for its
# transaction and one for a batch that it fills, while entries come over a third, page by page.
ACTIVITIES_AT_ONCE = 30


def log_to_stderr(level: str) -> None:
    """A process's own logging; libraries that log every request are kept down."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def work_until_stopped(services: Services, compose: Callable[[Client], Worker], *, ready: str) -> None:
    """Work until SIGINT or SIGTERM, then finish what is short.

    Raises:
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await services.store.check()
        client = await connect_temporal(services.settings)
        await check_namespace(client)
        async with compose(client) as worker:
            logger.info("%s: task queue %s, namespace %s", ready, worker.task_queue, client.namespace)
            await stopped.wait()
            logger.info("stopping: finishing what is short, handing over the rest")
    finally:
        await services.aclose()
        await asyncio.sleep(0.05)  # temporalio's threads must be done before the interpreter is (sdk-python issue 300)


def handler_worker(client: Client, services: Services, task_queue: str) -> Worker:
    """A worker for the user's code alone: no workflow, no provider, no key."""
    return Worker(
        client,
        task_queue=task_queue,
        activities=handler_activities(services),
        max_concurrent_activities=ACTIVITIES_AT_ONCE,
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
        services, lambda client: handler_worker(client, services, task_queue), ready=HANDLERS_READY
    )
