"""The composition root: settings in, a running worker out.

Run as `python worker.py --import my_app.batches`, or, from an installed package, `overnight worker --import ...`.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities import Services, batch_activities, handler_activities
from overnight.errors import OvernightError, UsageError
from overnight.notifiers import notifiers_from
from overnight.registry import load_modules
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import check_namespace, connect_temporal
from workflows import BatchWorkflow

logger = logging.getLogger("overnight.worker")

READY = "worker is ready"

# Time for an upload's page or an ingested block to be finished and committed; whatever is longer goes on elsewhere.
_DRAIN = timedelta(seconds=10)

# Fewer than the pool has connections (overnight/storage/database.py): a handler holds one for its transaction while it
# streams entries over another.
_ACTIVITIES = 30

# Re-importing these for every workflow instance costs 24 times the memory and protects nothing: the library does no
# I/O on import, and what the workflow uses of it is pure.
_PASSED_THROUGH = ("overnight", "pydantic", "pydantic_core", "annotated_types")


def compose(client: Client, services: Services, *, sandboxed: bool = True) -> Worker:
    """The worker: the workflow, and all activities.

    Args:
        client: of Temporal.
        services: what the activities stand on.
        sandboxed: import the workflow's modules anew for each of its instances, as Temporal recommends. A worker inside
            somebody's tests does without: there, `workflows` may be the name of another distribution.
    """
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    return Worker(
        client,
        task_queue=services.settings.task_queue,
        workflows=[BatchWorkflow],
        activities=[*batch_activities(services), *handler_activities(services)],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions)
        if sandboxed
        else UnsandboxedWorkflowRunner(),
        max_concurrent_activities=_ACTIVITIES,
        graceful_shutdown_timeout=_DRAIN,
    )


async def work(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM.

    Raises:
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    services = Services(settings, Store.from_settings(settings), notifiers_from(settings))
    try:
        await services.store.check()
        client = await connect_temporal(settings)
        await check_namespace(client)
        async with compose(client, services):
            logger.info("%s: task queue %s, namespace %s", READY, settings.task_queue, client.namespace)
            await stopped.wait()
            logger.info("stopping: finishing what is short, handing over the rest")
    finally:
        await services.aclose()
        await asyncio.sleep(0.05)  # temporalio's threads must be done before the interpreter is (sdk-python issue 300)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run batches: the Batch workflow and its activities.")
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that defines Tasks and handlers; may be given more than once",
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped as asked, 1 a server is not there, 2 a setting or module is wrong."""
    options = parse(arguments)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
        load_modules(options.modules)
        asyncio.run(work(settings))
    except OvernightError as error:
        print(f"overnight worker: {error}", file=sys.stderr)  # noqa: T201 - the last word before a non-zero exit
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
