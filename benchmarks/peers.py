"""The same batch through the same simulator, by us and by peers that keep state: `python benchmarks/peers.py`.

Each runs in a virtual environment of its own, under `.bench/` or where OVERNIGHT_BENCH_DIR says, in two processes: one
submits and ends, the other finds out that the provider is done and stores what it stores. CPU and peak memory are
those of these processes, interpreter and imports included; what our servers use is beside it. Needs a package index.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import psutil
from many_batches import simulator
from pydantic import SecretStr
from stand import machine, table

from overnight.embedded import running_stack
from overnight.settings import Settings
from overnight.storage.store import Store

ROOT = Path(__file__).parents[1]
DRIVERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One that is driven by `peers/run_<name>.py`."""

    name: str
    packages: Sequence[str]
    stores: str

    async def python(self, folder: Path) -> Path:
        """The interpreter of its environment, which is made when it is not there."""
        python = folder / self.name / "bin" / "python"
        if not python.exists():
            await _run([sys.executable, "-m", "venv", str(folder / self.name)])
            await _run([str(python), "-m", "pip", "install", "--quiet", *self.packages])
        return python


PEERS = (
    Peer(name="batchwizard", packages=["batchwizard==0.5.0"], stores="the result file, and a row per batch (SQLite)"),
    Peer(
        name="steadybatch",
        packages=["steadybatch==0.2.1", "openai==3.54.0"],
        stores="a row per request, with its answer (SQLite)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    wall: float
    cpu: float
    peak_mb: float


async def _run(command: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


def measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Figures:
    """Run it to its end; the kernel counts. Not its `ru_maxrss`, which begins at the size of whoever spawns."""
    begun, peak = time.perf_counter(), 0.0
    with log.open("ab") as file:
        out = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        child = os.posix_spawn(command[0], command, environment, file_actions=out)
    ended = 0
    while not ended:
        time.sleep(0.02)
        peak = max(peak, _peak_mb(child))
        ended, status, used = os.wait4(child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()[-2000:]
    return Figures(wall=time.perf_counter() - begun, cpu=used.ru_utime + used.ru_stime, peak_mb=peak)


def _peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


async def both(python: Path, name: str, count: int, environment: Mapping[str, str]) -> list[Figures]:
    """Submit, let the provider finish, collect."""
    found = []
    async with simulator(in_progress=0) as url:
        with tempfile.TemporaryDirectory() as folder:
            told = {**environment, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-benchmark", "HOME": folder}
            for phase in ("submit", "collect"):
                command = [str(python), str(DRIVERS / f"run_{name}.py"), phase, str(count), folder]
                found.append(await asyncio.to_thread(measured, command, told, Path(folder) / "log"))
                await asyncio.sleep(2)  # the provider finishes meanwhile
    return found


def servers_cpu() -> float:
    """Of Postgres and Temporal."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        if any("simulator" in word for word in process.cmdline()):
            continue
        times = process.cpu_times()
        used += times.user + times.system + times.children_user + times.children_system
    return used


@asynccontextmanager
async def deployment() -> AsyncIterator[Mapping[str, str]]:
    """What we need: Temporal, and a durable Postgres."""
    async with AsyncExitStack() as up:
        stack = await up.enter_async_context(running_stack())
        store = Store.from_settings(Settings(database_url=SecretStr(stack.postgres.dsn)))
        await store.upgrade()
        await store.aclose()
        yield {
            "PYTHONPATH": str(ROOT),
            "OVERNIGHT_DATABASE_URL": stack.postgres.dsn,
            "TEMPORAL_ADDRESS": stack.temporal.address,
            "OVERNIGHT_POLL_WAITS": "3600",
        }


def row(name: str, found: Sequence[Figures], stores: str) -> Sequence[object]:
    shown = (f"{one.wall:.1f} s / {one.cpu:.1f} s / {one.peak_mb:.0f} MB" for one in found)
    return [name, *shown, stores]


async def run(count: int, wanted: Sequence[str], folder: Path) -> None:
    base = {"PATH": os.environ["PATH"]}
    rows: list[Sequence[object]] = [["", "submit: wall / CPU / peak", "collect: wall / CPU / peak", "stores"]]
    if "overnight" in wanted:
        async with deployment() as environment:
            idle = servers_cpu()
            found = await both(Path(sys.executable), "overnight", count, {**base, **environment})
            stores = f"a row per request, with its answer (Postgres); servers' CPU {servers_cpu() - idle:.1f} s"
        rows.append(row("overnight", found, stores))
    for peer in PEERS:
        if peer.name in wanted:
            found = await both(await peer.python(folder), peer.name, count, base)
            rows.append(row(f"{peer.packages[0]}", found, peer.stores))
    print(f"\n{count:,} requests to OpenAI's batch API, {machine()}")
    table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["overnight", *(peer.name for peer in PEERS)]
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    asked = parser.parse_args()
    folder = Path(os.environ.get("OVERNIGHT_BENCH_DIR", ROOT / ".bench"))
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(asked.entries, asked.peers, folder))


if __name__ == "__main__":
    main()
