"""The whole system as processes, any of which can die: Postgres, Temporal on its file, the simulator, workers."""

import asyncio
import contextlib
import functools
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from pydantic import SecretStr
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from overnight import Overnight
from overnight.client import BatchHandle
from overnight.contracts import workflow_id
from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal, ManagedProcess, Program
from overnight.handlers import BatchHandler
from overnight.settings import Settings
from overnight.storage.store import Store
from tests.chaos import harness_points, harness_worker
from tests.chaos.harness_tasks import OUTSIDE, TABLES, Judge, KeepEffects
from tests.chaos.harness_versions import VERSION

ROOT = Path(__file__).parents[2]
MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
OPENAI_KEY = "sk-chaos-openai-5e1f0a77c3"
ANTHROPIC_KEY = "sk-ant-chaos-91b7d2e4f6"
EXACT_TIMERS = {"history.timerProcessorMaxTimeShift": "10ms"}
_LOOK_SECONDS = 0.1
# Far more than anything takes on a busy machine, and less than the tests' own timeouts, which do not say what for.
_PATIENCE = timedelta(minutes=3)
_LAST_LINES = 40
_PROVIDERS_IN_DOUBT = """
select distinct provider from overnight.submissions join overnight.batches on id = batch_id
where started_at is not null and accepted_at is null and resolved_at is null
"""
_TASK_TIMEOUT = timedelta(seconds=2)


class _Impatient(Interceptor):
    """A workflow task that died with its worker is given to the next one after seconds instead of ten."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - theirs
        return _ShortTasks(next)


class _ShortTasks(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002 - theirs
        input.task_timeout = _TASK_TIMEOUT
        return await super().start_workflow(input)


class Workers:
    """Worker processes, one after the other: `harness_worker` starts the next one when one has ended."""

    def __init__(self, process: ManagedProcess) -> None:
        self.process = process

    @property
    def log(self) -> str:
        """What all of them wrote."""
        return self.process.log_text()

    @property
    def ends(self) -> list[int]:
        """How those ended that are over: exit codes, or the negative number of the signal."""
        return [int(code) for code in re.findall(rf"^{harness_worker.ENDED}: (-?\d+)$", self.log, re.MULTILINE)]

    async def stop(self) -> None:
        """SIGKILL; nobody follows."""
        await self.process.kill()

    async def start(self) -> None:
        """Start again, after a `stop`."""
        self.process = await ManagedProcess.start(self.process.program)

    async def upgrade(self, version: str) -> None:
        """Start another version beside these, and when it is ready take these away, as a rolling deployment does."""
        old, program = self.process, self.process.program
        log_file, env = program.log_file.with_name(f"{version}.log"), {**(program.env or {}), VERSION: version}
        self.process = await ManagedProcess.start(replace(program, name=version, log_file=log_file, env=env))
        await self.process.wait_until_ready(self.process.log_matches("worker is ready"), timeout=_PATIENCE)
        await old.stop()

    def kill(self) -> None:
        """SIGKILL; a fresh one follows."""
        self._send(signal.SIGKILL)

    def deploy(self) -> None:
        """SIGTERM, as a deployment sends it; a fresh one follows."""
        self._send(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: alive, with all its connections, and silent."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)

    @property
    def pid(self) -> int | None:
        """Of the one that lives."""
        began = re.findall(rf"^{harness_worker.BEGAN}: (\d+)$", self.log, re.MULTILINE)
        return int(began[-1]) if len(began) > len(self.ends) else None

    @property
    def is_ready(self) -> bool:
        """Whether the one that lives polls."""
        return "worker is ready" in self.log.rpartition(harness_worker.BEGAN)[2]

    def last_words(self) -> str:
        lines = "\n".join(f"    {line}" for line in self.log.splitlines()[-_LAST_LINES:])
        return f"{self.process.program.name}, whose dead ended with {self.ends}:\n{lines}"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """What a system stands on, and the database that is its own."""

    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal
    dsn: str


@dataclass(kw_only=True)
class System:
    """All of it, and the client that a user would have."""

    folder: Path
    servers: Servers
    simulator: str
    workers: list[Workers]
    overnight: Overnight
    batches: list[BatchHandle] = field(default_factory=list)
    holds: dict[UUID, Path] = field(default_factory=dict)

    @property
    def deaths(self) -> int:
        return sum(worker.ends.count(-signal.SIGKILL) for worker in self.workers)

    @property
    def points(self) -> Path:
        return self.folder / "points"

    def outside(self) -> list[str]:
        """The effects that no transaction could take back."""
        return (self.folder / "outside").read_text().splitlines()

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.servers.dsn) as connection:
            return connection.execute(query, parameters).fetchall()

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """The simulator's control endpoint."""
        async with httpx.AsyncClient(base_url=f"{self.simulator}/_simulator") as http:
            return (await http.request(method, path, json=body, timeout=30)).raise_for_status().json()

    async def fault(self, effect: Mapping[str, object], **match: object) -> None:
        await self.control("POST", "/faults", {"match": match, "effect": effect})

    async def submit(
        self,
        provider: str,
        *,
        die: Mapping[str, int] | Sequence[str] = (),
        hold: str | None = None,
        entries: int = 30,
        handler: type[BatchHandler] = KeepEffects,
        **options: Any,
    ) -> BatchHandle:
        """Submit a batch. Where its worker shall die (and at which time of getting there), wait until it has.

        Raises:
            AssertionError: the batch is over, and nobody came to such a place.
        """
        batch = await self.overnight.create_batch(provider=provider, model=MODELS[provider], handler=handler, **options)
        await batch.add_all(Judge(review=f"review {n} of {batch.id}") for n in range(entries))
        for point, at in die.items() if isinstance(die, Mapping) else [(name, 1) for name in die]:
            harness_points.arm(self.points, batch.id, point, at=at)
        if hold is not None:
            self.holds[batch.id] = harness_points.hold(self.points, batch.id, hold)
        await batch.submit()
        self.batches.append(batch)
        if die:
            await self.eventually(f"somebody dies at each of {die}", functools.partial(self._has_killed, batch))
        return batch

    async def _has_killed(self, batch: BatchHandle) -> bool:
        """Whether somebody has died at each of the batch's places."""
        if not harness_points.armed(self.points, batch.id):
            return True
        was_over = await self.is_over(batch)
        left = harness_points.armed(self.points, batch.id)
        assert not (was_over and left), f"Nobody came to {left}, and the batch is over.\n{await self.standing()}"
        return not left

    async def finish(self) -> None:
        """Wait until every workflow has completed, however often a server is away meanwhile."""
        for batch in self.batches:
            await self.eventually(f"batch {batch.id} completes", functools.partial(self.is_over, batch))

    async def settle(self) -> None:
        """Go on as a deployment does: a doubt that outlives its batch is settled while a later batch is polled."""
        await self.control("DELETE", "/faults")
        for (provider,) in self.rows(_PROVIDERS_IN_DOUBT):
            await self.submit(provider)
        await self.finish()

    async def is_over(self, batch: BatchHandle) -> bool:
        with contextlib.suppress(RPCError):
            handle = self.overnight.temporal.get_workflow_handle(workflow_id(batch.id))
            described = await handle.describe(rpc_timeout=timedelta(seconds=5))
            assert described.status in {WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.COMPLETED}
            return described.status is WorkflowExecutionStatus.COMPLETED
        return False

    async def held(self, batch: BatchHandle) -> Path:
        """Wait until a worker has come to where the batch is to be held; deleting the file lets it go on."""
        hold = self.holds[batch.id]
        await self.eventually(f"somebody comes to {hold.name}", hold.exists)
        return hold

    def holder(self, batch: BatchHandle) -> int:
        """The process that holds it."""
        return int(self.holds[batch.id].read_text())

    async def retried(self, batch: BatchHandle) -> None:
        """Wait until Temporal has given the batch's present step to somebody a second time."""
        await self.eventually(f"a step of batch {batch.id} is tried again", functools.partial(self._is_retried, batch))

    async def _is_retried(self, batch: BatchHandle) -> bool:
        handle = self.overnight.temporal.get_workflow_handle(workflow_id(batch.id))
        return any(step.attempt > 1 for step in (await handle.describe()).raw_description.pending_activities)

    async def until(self, query: str, parameters: Sequence[object] = ()) -> None:
        """Wait until a query has rows."""
        await self.eventually(f"{query} {parameters} has rows", lambda: bool(self.rows(query, parameters)))

    async def eventually(self, what: str, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until it holds.

        Raises:
            TimeoutError: it does not within minutes; the text tells how everything stands.
            EmbeddedServerError: nobody starts workers any more.
        """
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        while not (answer if isinstance(answer := holds(), bool) else await answer):
            for worker in self.workers:
                worker.process.raise_if_ended()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {_PATIENCE} in vain until {what}.\n{await self.standing()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def standing(self) -> str:
        """How everything stands, for whoever waits in vain."""
        facts = [
            self._stored(),
            *[await self._workflow(batch) for batch in self.batches],
            f"places where nobody came: {harness_points.armed(self.points)}",
            *[worker.last_words() for worker in self.workers],
        ]
        return "\n".join(facts)

    def _stored(self) -> str:
        try:
            rows = self.rows("select id, provider, status, trouble_code, handler_dispatched_at from overnight.batches")
        except psycopg.Error as error:
            return f"Postgres does not tell: {error}"
        return "\n".join(" ".join(map(str, row)) for row in rows)

    async def _workflow(self, batch: BatchHandle) -> str:
        handle = self.overnight.temporal.get_workflow_handle(workflow_id(batch.id))
        try:
            described = await handle.describe(rpc_timeout=timedelta(seconds=5))
        except RPCError as error:
            return f"{handle.id}: Temporal does not tell: {error}"
        pending = described.raw_description.pending_activities
        steps = [f"{step.activity_type.name}, attempt {step.attempt}" for step in pending]
        return f"{handle.id}: {described.status and described.status.name}, pending: {steps}"


@contextlib.asynccontextmanager
async def running_system(
    folder: Path,
    *,
    servers: Servers | None = None,
    workers: int = 1,
    in_progress: float = 0.5,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[System]:
    """Start everything, the servers too where there are none; at the end stop what was started, workers first."""
    async with contextlib.AsyncExitStack() as stack:
        servers = servers or await stack.enter_async_context(own_servers(folder))
        simulator = await stack.enter_async_context(_simulator(folder, in_progress))
        settings = _settings(servers.dsn, simulator)
        store = Store.from_settings(settings)
        stack.push_async_callback(store.aclose)
        await _prepare(folder, servers.dsn, store)
        client = await Client.connect(
            servers.temporal.address, data_converter=pydantic_data_converter, interceptors=[_Impatient()]
        )
        stack.push_async_callback(asyncio.sleep, 0.05)
        programs = [_worker(folder, number, settings, servers.temporal, environment or {}) for number in range(workers)]
        started = [
            Workers(await stack.enter_async_context(await ManagedProcess.start(program))) for program in programs
        ]
        for worker in started:
            stack.push_async_callback(worker.stop)  # one that was started again is another process
        yield System(
            folder=folder,
            servers=servers,
            simulator=simulator,
            workers=started,
            overnight=Overnight(settings=settings, store=store, temporal=client),
        )


@contextlib.asynccontextmanager
async def own_servers(
    folder: Path, *, durable: bool = False, dynamic_config: Mapping[str, object] | None = None
) -> AsyncIterator[Servers]:
    """Servers that nobody else uses, and that may die."""
    postgres = EmbeddedPostgres(data_dir=folder / "postgres", durable=durable)
    temporal = EmbeddedTemporal(
        db_file=folder / "temporal" / "temporal.db", dynamic_config=EXACT_TIMERS | dict(dynamic_config or {})
    )
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(stack.enter_async_context(postgres), stack.enter_async_context(temporal))
        yield Servers(postgres=postgres, temporal=temporal, dsn=postgres.dsn)


async def _prepare(folder: Path, dsn: str, store: Store) -> None:
    (folder / "points").mkdir()
    (folder / "outside").touch()
    await store.upgrade()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)


@contextlib.asynccontextmanager
async def _simulator(folder: Path, in_progress: float) -> AsyncIterator[str]:
    """The simulator on a state folder of its own; answers its address."""
    stages = ["--validating=0.1", f"--in-progress={in_progress}", "--finalizing=0.1", "--canceling=0.3"]
    program = Program(
        name="simulator",
        argv=[sys.executable, "-m", "overnight.simulator", f"--state-dir={folder / 'provider'}", *stages],
        log_file=folder / "simulator.log",
        cwd=ROOT,
    )
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches("Simulator ready"), timeout=timedelta(seconds=60))
        found = re.search(r"ANTHROPIC_BASE_URL=(\S+)", process.log_text())
        assert found is not None
        yield found[1]


def _settings(dsn: str, simulator: str) -> Settings:
    return Settings(
        database_url=SecretStr(dsn),
        task_queue=f"chaos-{secrets.token_hex(4)}",
        poll_waits=(timedelta(seconds=0.2),),
        list_settles=timedelta(seconds=2),
        results_settle=timedelta(seconds=0.5),
        openai_api_key=SecretStr(OPENAI_KEY),
        openai_base_url=f"{simulator}/v1",
        anthropic_api_key=SecretStr(ANTHROPIC_KEY),
        anthropic_base_url=simulator,
    )


def _worker(
    folder: Path, number: int, settings: Settings, temporal: EmbeddedTemporal, extra: Mapping[str, str]
) -> Program:
    assert settings.database_url is not None
    environment = {
        "PATH": os.environ["PATH"],
        "TEMPORAL_ADDRESS": temporal.address,
        "OVERNIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "OVERNIGHT_LIST_SETTLES": str(settings.list_settles.total_seconds()),
        "OVERNIGHT_RESULTS_SETTLE": str(settings.results_settle.total_seconds()),
        "OVERNIGHT_POLL_WAITS": "0.2",
        "OPENAI_API_KEY": OPENAI_KEY,
        "OPENAI_BASE_URL": settings.openai_base_url,
        "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
        "ANTHROPIC_BASE_URL": settings.anthropic_base_url,
        harness_points.FOLDER: str(folder / "points"),
        OUTSIDE: str(folder / "outside"),
    }
    return Program(
        name=f"worker {number}",
        argv=[sys.executable, "-m", "tests.chaos.harness_worker", "--import", "tests.chaos.harness_tasks"],
        log_file=folder / f"worker-{number}.log",
        env=environment | dict(extra),
        cwd=ROOT,
    )
