# ruff: noqa: INP001 - a script inside the image, in no package
"""Is this container's worker at work? It is when Temporal has lately been asked for work from here.

A process that runs proves little: a worker can be up and polling the wrong namespace or task queue, or hang. So it is
Temporal that is asked, and it names its pollers as "<process id>@<host name>". Ends with 0 or 1, and says why.
"""

import argparse
import asyncio
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from overnight.contracts import bulk_task_queue
from overnight.errors import OvernightError
from overnight.parts import Part
from overnight.settings import Settings
from overnight.temporal import connect_temporal

# A poll that finds no work is answered after a minute, and the next one follows at once.
_LATELY = timedelta(minutes=3)

_WORKFLOWS = "workflows", TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
_ACTIVITIES = "activities", TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


def _is_ours(poller: PollerInfo) -> bool:
    asked_at = poller.last_access_time.ToDatetime(tzinfo=UTC)
    return poller.identity.endswith(f"@{socket.gethostname()}") and datetime.now(UTC) - asked_at < _LATELY


async def _polls(client: Client, task_queue: str, kind: "TaskQueueType.ValueType") -> bool:
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
        ),
        timeout=timedelta(seconds=5),
    )
    return any(_is_ours(poller) for poller in answer.pollers)


def _wanted(task_queue: str, *, handlers: str | None, only: str | None) -> list[tuple[str, str, Any]]:
    """What a worker of this kind asks for, and on which task queue."""
    if handlers is not None:
        return [(handlers, *_ACTIVITIES)]
    batches = [(task_queue, *_WORKFLOWS), (task_queue, *_ACTIVITIES)] if only != Part.BULK else []
    bulk = [(bulk_task_queue(task_queue), *_ACTIVITIES)] if only != Part.BATCHES else []
    return batches + bulk


async def missing(*, handlers: str | None, only: str | None) -> str | None:
    """What this container's worker does not ask for, or None when all is well."""
    settings = Settings.from_environment()
    client = await connect_temporal(settings)
    for task_queue, word, kind in _wanted(settings.task_queue, handlers=handlers, only=only):
        if not await _polls(client, task_queue, kind):
            return f"nobody on {socket.gethostname()} asks for {word} of task queue {task_queue!r}"
    return None


async def main() -> int:
    parser = argparse.ArgumentParser(description="Is this container's worker at work?")
    parser.add_argument("--handlers", metavar="NAME", help="It is `overnight handlers`, on this task queue.")
    parser.add_argument("--only", choices=list(Part), help="It is `overnight worker --only` this part.")
    arguments = parser.parse_args()
    try:
        fault = await missing(handlers=arguments.handlers, only=arguments.only)
    except (OvernightError, RPCError) as error:
        fault = str(error)
    await asyncio.sleep(0.05)  # a process must not end right after temporalio's last call (sdk-python issue 300)
    print(f"unhealthy: {fault}" if fault else "healthy")  # noqa: T201 - `docker inspect` shows it
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
