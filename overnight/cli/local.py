"""Everything on this machine, up and down together: Postgres, Temporal, the simulator, the schema, a worker and, where
it is wanted, the web console.
"""

import os
import re
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from overnight.attributes import KINDS
from overnight.cli.application import worker_command, worker_environment
from overnight.cli.database import upgrade
from overnight.cli.environment import (
    local_environment,
    provider_variables,
    server_variables,
    simulator_addresses,
)
from overnight.cli.extras import has_ui
from overnight.embedded import LOOPBACK, ManagedProcess, PortLease, Program, Stack, running_stack
from overnight.errors import EmbeddedServerError
from overnight.settings import Settings

_START_TIMEOUT = timedelta(seconds=60)
_LAST_LINES = 20
_SIMULATOR_READY = r"^Simulator ready"
_WORKER_READY = r"worker is ready"
NO_CONSOLE = "not installed; pip install 'overnight[ui]'"
_CONSOLE_READY = r"^Console at (\S+);"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Wanted ports; None for any free one."""

    postgres: int | None = None
    temporal: int | None = None
    ui: int | None = None
    simulator: int | None = None
    console: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to run.

    Attributes:
        folder: data of the servers, kept.
        logs: where all logs are to be found.
        simulated: the providers that the simulator stands in for; where there are none it does not run.
        modules: the user's, for the worker.
        simulator_options: further command line options of the simulator.
        extra_environment: further variables for all processes.
        console: run the web console too, if the extra for it is installed.
    """

    folder: Path
    logs: Path
    simulated: Collection[str]
    modules: Sequence[str] = ()
    simulator_options: Sequence[str] = ()
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)
    console: bool = False


@dataclass(frozen=True, kw_only=True)
class Local:
    """What runs, and how to reach it.

    Attributes:
        variables: what a script needs in its environment to work on it.
        environment: a whole environment with them.
    """

    stack: Stack
    simulator: ManagedProcess | None
    worker: ManagedProcess
    console: ManagedProcess | None
    variables: Mapping[str, str]
    environment: Mapping[str, str]

    def raise_if_ended(self) -> None:
        """Raise EmbeddedServerError when one of the processes has died; the text has the end of its log."""
        for process in (self.simulator, self.worker, self.console):
            if process is not None:
                process.raise_if_ended()
        if not self.stack.postgres.is_running:
            raise EmbeddedServerError(f"Postgres has died. See {self.stack.postgres.log_file}.")
        if not self.stack.temporal.is_running:
            raise EmbeddedServerError("Temporal has died. See temporal.log among the logs.")

    @property
    def console_url(self) -> str | None:
        """Where the web console is; None where there is none."""
        found = re.search(_CONSOLE_READY, self.console.log_text(), re.MULTILINE) if self.console else None
        return found[1] if found else None

    def last_words(self) -> str:
        """The end of the worker's log, and where the whole of it is."""
        lines = self.worker.log_text().splitlines()[-_LAST_LINES:]
        return "\n".join([f"The end of {self.worker.program.log_file}:", *(f"    {line}" for line in lines)])


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Local]:
    """Start all of it, the slow ones at once, and stop all of it at the end, however the end comes.

    Raises:
        EmbeddedServerError: one did not start; the text has the end of its log.
    """
    _link_logs(plan)
    async with _simulator(plan) as simulator, _stack(plan) as stack:
        variables = server_variables(
            database_url=stack.postgres.dsn,
            temporal_address=stack.temporal.address,
            namespace=stack.temporal.namespace,
        )
        if simulator is not None:
            await simulator.wait_until_ready(simulator.log_matches(_SIMULATOR_READY), timeout=_START_TIMEOUT)
            variables |= provider_variables(simulator_addresses(simulator.log_text()), plan.simulated)
        environment = local_environment(_given(plan), variables)
        await upgrade(Settings.model_validate({"database_url": stack.postgres.dsn}))
        async with (
            await ManagedProcess.start(_worker(plan, environment)) as worker,
            _console(plan, environment, stack.temporal.ui_url) as console,
        ):
            await worker.wait_until_ready(worker.log_matches(_WORKER_READY), timeout=_START_TIMEOUT)
            yield Local(
                stack=stack,
                simulator=simulator,
                worker=worker,
                console=console,
                variables=variables,
                environment=environment,
            )


def _given(plan: Plan) -> dict[str, str]:
    return {**os.environ, **plan.extra_environment}


def _stack(plan: Plan) -> AbstractAsyncContextManager[Stack]:
    return running_stack(
        folder=plan.folder,
        postgres_port=_if_free(plan.ports.postgres),
        temporal_port=_if_free(plan.ports.temporal),
        ui_port=_if_free(plan.ports.ui),
        search_attributes=KINDS,
    )


def _if_free(port: int | None) -> int | None:
    """The port, unless somebody listens there: then any other."""
    if port is None:
        return None
    try:
        PortLease(port).release()
    except EmbeddedServerError:
        return None
    return port


@asynccontextmanager
async def _simulator(plan: Plan) -> AsyncIterator[ManagedProcess | None]:
    """Started, and not yet waited for: it takes about as long as the servers, which start meanwhile."""
    if not plan.simulated:
        yield None
        return
    program = Program(
        name="simulator",
        argv=[
            *(sys.executable, "-m", "overnight.simulator", "--host", LOOPBACK),
            *("--port", str(_if_free(plan.ports.simulator) or 0)),
            *("--state-dir", str(plan.folder / "simulator")),
            *plan.simulator_options,
        ],
        log_file=plan.logs / "simulator.log",
        env=_given(plan),
    )
    async with await ManagedProcess.start(program) as process:
        yield process


@asynccontextmanager
async def _console(
    plan: Plan, environment: Mapping[str, str], temporal_ui: str
) -> AsyncIterator[ManagedProcess | None]:
    if not (plan.console and has_ui()):
        yield None
        return
    program = Program(
        name="console",
        argv=[
            *(sys.executable, "-m", "overnight.cli", "ui", "--temporal-ui", temporal_ui),
            *("--port", str(_if_free(plan.ports.console) or 0)),
        ],
        log_file=plan.logs / "console.log",
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches(_CONSOLE_READY), timeout=_START_TIMEOUT)
        yield process


def _worker(plan: Plan, environment: Mapping[str, str]) -> Program:
    return Program(
        name="worker",
        argv=worker_command(plan.modules),
        log_file=plan.logs / "worker.log",
        env=worker_environment(environment),
    )


def _link_logs(plan: Plan) -> None:
    """The servers write their logs beside their data; here they are seen beside the other logs."""
    plan.logs.mkdir(parents=True, exist_ok=True)
    for server in ("postgres", "temporal"):
        link = plan.logs / f"{server}.log"
        link.unlink(missing_ok=True)
        link.symlink_to((plan.folder / server / link.name).absolute())
