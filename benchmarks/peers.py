"""The same batch through the same simulator, by us and by peers that keep state: `python benchmarks/peers.py`.

Each is driven by `peers/run_<name>.py`, in a virtual environment of its own, under `.bench/` or where
OVERNIGHT_BENCH_DIR says, in two processes: one submits and ends; then the provider finishes its work; then the other
finds that out, and stores what it stores. Every driver counts what it got. CPU and peak memory are those of these
processes, interpreter and imports included; what our servers use is a row of its own. Prints a table in Markdown.
Needs a package index.
"""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import httpx
import psutil
from many_batches import DAY, simulator
from pydantic import SecretStr
from stand import machine

from overnight.embedded import running_stack
from overnight.settings import Settings
from overnight.storage.store import Store

ROOT = Path(__file__).parents[1]
DRIVERS = Path(__file__).parent / "peers"
KEY = "sk-benchmark"
WARM_UP = 20
"""Requests of a first round that is thrown away: it reads an environment from the disk, and finds what is broken."""
PHASE_SECONDS = 3_600
ANSWER = '{"label": "positive", "confidence": 0.93, "quote": "%s"}' % ("The reviewer likes what was bought. " * 15)
"""All get the same answer, in JSON, because one of the peers takes nothing else."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One that is driven by `peers/run_<name>.py`."""

    name: str
    packages: Sequence[str] = ()
    """The first one names it in the table. None at all: it is ours, and runs in this environment, with its servers."""
    stores: str
    limit: int = 50_000
    """More requests than these would take too long."""

    @property
    def title(self) -> str:
        return self.packages[0].replace("==", " ") if self.packages else self.name.replace("_", ", with a ")

    @property
    def driver(self) -> Path:
        return DRIVERS / f"run_{self.name}.py"

    def python(self, folder: Path) -> Path:
        """The interpreter of its environment, which is made anew when it is not what it should be."""
        home = folder / self.name
        python, note = home / "bin" / "python", home / "installed"
        if not self.packages:
            return Path(sys.executable)
        if not note.exists() or note.read_text().splitlines() != list(self.packages):
            shutil.rmtree(home, ignore_errors=True)
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True)
            install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
            subprocess.run([*install, *self.packages], check=True)
            note.write_text("\n".join(self.packages))
        return python


OPENAI = "openai==3.54.0"
PEERS = (
    Peer(name="openai_sdk", packages=[OPENAI], stores="the floor, the SDK alone: the result file"),
    Peer(name="overnight", stores="a row per request, with its outcome, usage, cost and answer (Postgres)"),
    Peer(name="overnight_task", stores="the same, with the answer checked against the task's output type"),
    Peer(
        name="airflow",
        packages=["apache-airflow-providers-common-ai==1.0.0", "apache-airflow==3.3.2", OPENAI],
        stores="an intent, and a JSONL file with a row per request: status, text, usage",
    ),
    Peer(name="batchwizard", packages=["batchwizard==0.5.0"], stores="the result file, and a row per batch (SQLite)"),
    Peer(
        name="batchwork",
        packages=["batchwork-ai==0.3.0"],
        stores="nothing by itself; its parsed results, as JSONL by the driver",
    ),
    Peer(
        name="loom",
        packages=["loom-batch==0.7.0", OPENAI],
        stores="the input with a text beside each prompt (JSON), and a file per text (its cache)",
    ),
    Peer(
        name="langasync",
        packages=["langasync==0.2.3", "langchain-openai==1.7.3"],
        stores="a record of the batch; texts, as JSONL by the driver",
    ),
    Peer(
        name="relay",
        packages=["relay-llm==0.3.0", OPENAI],
        stores="a row per request, with its text, and one in its cache (SQLite)",
        limit=10_000,
    ),
    Peer(
        name="steadybatch",
        packages=["steadybatch==0.2.1", OPENAI],
        stores="a row per request, with its answer (SQLite)",
        limit=10_000,
    ),
    Peer(
        name="batchlane",
        packages=["batchlane==0.2.0"],
        stores="a journal of the batches; texts, as JSONL by the driver",
        limit=10_000,
    ),
    Peer(
        name="curator",
        packages=["bespokelabs-curator==0.1.31"],
        stores="requests, responses and the data set, as JSONL and Arrow files",
    ),
)


class DriverError(Exception):
    """A driver did not do what it should."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    wall: float
    cpu: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s / {self.cpu:.1f} s / {self.peak_mb:.0f} MB"


def measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Figures:
    """Run it to its end; the kernel counts. Not its `ru_maxrss`, which begins at the size of whoever spawns."""
    begun, peak, ended = time.perf_counter(), 0.0, 0
    with log.open("wb") as file:
        out = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        child = os.posix_spawn(command[0], command, environment, file_actions=out)
    while not ended:
        time.sleep(0.02)
        peak = max(peak, _peak_mb(child))
        if time.perf_counter() - begun > PHASE_SECONDS:
            os.kill(child, signal.SIGKILL)
        ended, status, used = os.wait4(child, os.WNOHANG)
    if os.waitstatus_to_exitcode(status) != 0:
        raise DriverError(log.read_text()[-4000:])
    return Figures(wall=time.perf_counter() - begun, cpu=used.ru_utime + used.ru_stime, peak_mb=peak)


def _peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


@dataclass
class Servers:
    """Postgres and Temporal, while they work for one of our processes."""

    processes: Sequence[psutil.Process]
    figures: list[Figures] = field(default_factory=list)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        begun, before, peak = time.perf_counter(), self._cpu(), [self._memory_mb()]

        async def watch() -> None:
            while True:
                await asyncio.sleep(0.5)
                peak.append(await asyncio.to_thread(self._memory_mb))

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
        wall, cpu = time.perf_counter() - begun, self._cpu() - before
        self.figures.append(Figures(wall=wall, cpu=cpu, peak_mb=max(peak)))

    def _all(self) -> Iterator[psutil.Process]:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                yield from (process, *process.children(recursive=True))

    def _cpu(self) -> float:
        used = 0.0
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])  # those of children that ended as well
        return used

    def _memory_mb(self) -> float:
        """Proportional: Postgres's processes share most of theirs."""
        used = 0.0
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                used += process.memory_full_info().pss / 1e6
        return used


@asynccontextmanager
async def deployment() -> AsyncIterator[tuple[Mapping[str, str], Servers]]:
    """What we need: Temporal and a Postgres, both with their data on the disk."""
    async with AsyncExitStack() as up:
        folder = Path(up.enter_context(tempfile.TemporaryDirectory()))
        stack = await up.enter_async_context(running_stack(folder=folder))
        store = Store.from_settings(Settings(database_url=SecretStr(stack.postgres.dsn)))
        await store.upgrade()
        await store.aclose()
        environment = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
            "OVERNIGHT_DATABASE_URL": stack.postgres.dsn,
            "TEMPORAL_ADDRESS": stack.temporal.address,
            "OVERNIGHT_POLL_WAITS": "3600",
        }
        yield environment, Servers(psutil.Process().children())


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A simulator whose batches stay as they are until it is told to finish them."""

    url: str
    client: httpx.AsyncClient

    async def call(self, method: str, path: str, body: object = None) -> Any:
        return (await self.client.request(method, path, json=body)).raise_for_status().json()

    async def finish(self, count: int) -> None:
        """The work is done between the two halves, so that nobody waits for it or is charged with it."""
        batches = (await self.call("GET", "/v1/batches"))["data"]
        for batch in batches:
            await self.call("POST", f"/_simulator/batches/{batch['id']}", {"finish": True})
        while not all(batch["status"] == "completed" for batch in batches):
            batches = [await self.call("GET", f"/v1/batches/{batch['id']}") for batch in batches]
        if (got := sum(batch["request_counts"]["completed"] for batch in batches)) != count:
            raise DriverError(f"the provider got {got} good requests of {count}")


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    async with simulator(validating=DAY) as url:
        root, headers = url.removesuffix("/v1"), {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=root, headers=headers, timeout=60) as client:
            made = Provider(url=url, client=client)
            await made.call("PUT", "/_simulator/answers", {"custom_id": "*", "text": ANSWER})
            yield made


async def both(peer: Peer, python: Path, count: int, told: Mapping[str, str], servers: Servers) -> list[Figures]:
    """Submit, let the provider finish, collect."""
    found = []
    async with provider() as asked:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**told, "OPENAI_BASE_URL": asked.url, "OPENAI_API_KEY": KEY, "HOME": folder}
            for phase in ("submit", "collect"):
                command = [str(python), str(peer.driver), phase, str(count), folder]
                async with servers.watched():
                    found.append(await asyncio.to_thread(measured, command, environment, Path(folder) / "log"))
                if phase == "submit":
                    await asked.finish(count)
    return found


async def compared(peer: Peer, count: int, folder: Path) -> list[Sequence[object]]:
    """Its row of the table, and that of its servers."""
    count, python, base = min(count, peer.limit), peer.python(folder), {"PATH": os.environ["PATH"]}
    async with AsyncExitStack() as up:
        servers = Servers(())
        if not peer.packages:
            environment, servers = await up.enter_async_context(deployment())
            base.update(environment)
        await both(peer, python, min(count, WARM_UP), base, servers)
        servers.figures.clear()
        found = await both(peer, python, count, base, servers)
    rows: list[Sequence[object]] = [[peer.title, f"{count:,}", *found, peer.stores]]
    if not peer.packages:
        beside = (f"{used.cpu:.1f} s / {used.peak_mb:.0f} MB" for used in servers.figures)
        rows.append(["and its Postgres and Temporal: CPU / peak", "", *beside, ""])
    return rows


def show(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


async def run(count: int, wanted: Sequence[str], folder: Path) -> int:
    """How many failed."""
    failures = {}
    show(
        f"OpenAI's batch API, {machine()}",
        "requests",
        "submit: wall / CPU / peak",
        "collect: wall / CPU / peak",
        "stores",
    )
    show(*["---"] * 5)
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        try:
            for row in await compared(peer, count, folder):
                show(*row)
        except (DriverError, subprocess.CalledProcessError) as error:
            failures[peer.title] = error
    for title, error in failures.items():
        print(f"\n{title} did not run:\n{error}", file=sys.stderr)
    return len(failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    asked = parser.parse_args()
    folder = Path(os.environ.get("OVERNIGHT_BENCH_DIR", ROOT / ".bench"))
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(run(asked.entries, asked.peers, folder))


if __name__ == "__main__":
    sys.exit(main())
