"""The composition root: settings in, a running worker out.

Run as `python worker.py --import my_app.batches`, or, from an installed package, `overnight worker --import ...`.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import assert_never

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import Services, bulk_activities, short_activities
from overnight.contracts import bulk_task_queue
from overnight.errors import OvernightError, UsageError
from overnight.handling import handler_activities, process
from overnight.handling.dispatch import DispatchActivities
from overnight.handling.process import Workers, work_until_stopped
from overnight.logs import log_to_stderr
from overnight.notifiers import notifiers_from
from overnight.parts import Part
from overnight.registry import load_modules
from overnight.settings import Settings
from overnight.storage.store import Store
from workflows import BatchWorkflow, CampaignWorkflow

READY = "worker is ready"


def compose(client: Client, services: Services, *, only: Part | None = None) -> Workers:
    """The workers: one for the workflow and its short steps, one for bulk steps. Each has slots of its own, so that
    no poll waits for a slot behind an ingestion or a handler.

    Args:
        client: of Temporal.
        services: what the activities stand on.
        only: leave the other part to other processes.
    """
    match only:
        case None:
            return Workers(_batch_worker(client, services), _bulk_worker(client, services))
        case Part.BATCHES:
            return Workers(_batch_worker(client, services))
        case Part.BULK:
            return Workers(_bulk_worker(client, services))
        case _:
            assert_never(only)


def _batch_worker(client: Client, services: Services) -> Worker:
    return Worker(
        client,
        task_queue=services.settings.task_queue,
        workflows=[BatchWorkflow, CampaignWorkflow],
        # Handlers are run by the other worker; this one notes what was decided about them.
        activities=[*short_activities(services), DispatchActivities(services).dispatch_handler],
        # The sandbox is for our tests; here it would cost every batch time and memory (docs/decisions/0041).
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=services.settings.cached_workflows,
        max_concurrent_activities=process.SHORT_AT_ONCE,
        graceful_shutdown_timeout=process.DRAIN,
    )


def _bulk_worker(client: Client, services: Services) -> Worker:
    return Worker(
        client,
        task_queue=bulk_task_queue(services.settings.task_queue),
        activities=[*bulk_activities(services), *handler_activities(services)],
        max_concurrent_activities=process.BULK_AT_ONCE,
        graceful_shutdown_timeout=process.DRAIN,
    )


async def work(settings: Settings, *, only: Part | None = None) -> None:
    """Work until SIGINT or SIGTERM.

    Raises:
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    services = Services(settings, Store.from_settings(settings), notifiers_from(settings))
    await work_until_stopped(
        services, lambda client: compose(client, services, only=only), ready=READY, samples=only is not Part.BULK
    )


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
    parser.add_argument("--only", type=Part, choices=list(Part), help="leave the other part to other processes")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped as asked, 1 a server is not there, 2 a setting or module is wrong."""
    options = parse(arguments)
    try:
        log_to_stderr(options.log_level)
        settings = Settings.from_environment()
        load_modules(options.modules)
        asyncio.run(work(settings, only=options.only))
    except OvernightError as error:
        print(f"overnight worker: {error}", file=sys.stderr)  # noqa: T201 - the last word before a non-zero exit
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
