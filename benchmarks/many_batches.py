"""Thousands of batches at once, and polls beside heavy work: `python benchmarks/many_batches.py`.

Temporal's dev server, a durable Postgres, the provider simulator and the worker are processes of their own. How late a
poll is comes from the workflows' histories: from when its timer was due to when its activity began.

load: so many batches start, sleep and are polled by the default schedule; then all are told to look at once, which
shows what a worker can do at most. giant: a few batches are polled every few seconds while one of 100,000 entries is
read, hydrated and dispatched. handlers: the same while more handlers run than there are slots.
"""

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import httpx
import psutil
import psycopg
from judge import Judge
from patience import Patient
from pydantic import SecretStr
from stand import machine, table, verdict
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from overnight import BatchHandle, Overnight
from overnight.embedded import Stack, running_stack
from overnight.log_events import LogEvent
from overnight.settings import Settings
from overnight.storage.store import Store

ROOT = Path(__file__).parents[1]
MODEL = "gpt-5.4-mini"
DAY = 86_400
LATE_SECONDS = 10
AT_ONCE = 20
EVERY = timedelta(seconds=5)
SAMPLE = 1_000
AT_ONCE_MOST = 2_000
PORTION = 50
PROCESSES = {"one": [[]], "two": [["--only", "batches"], ["--only", "bulk"]]}


@dataclass
class Site:
    """Everything that runs, and this process's client of it."""

    stack: Stack
    overnight: Overnight
    provider: httpx.AsyncClient
    temporal: Client
    environment: Mapping[str, str]
    folder: Path
    workers: list[psutil.Process] = field(default_factory=list)

    def polls_seen(self) -> int:
        """By all workers, from what they log of each."""
        polled = f" {LogEvent.BATCH_POLLED}: "
        return sum(log.read_text().count(polled) for log in self.folder.glob("worker-*.log"))

    def resident(self) -> float:
        """Of all workers, in kB."""
        return sum(worker.memory_info().rss for worker in self.workers) / 1000

    def cpu(self) -> dict[str, float]:
        """Seconds that each kind of process has used so far."""
        used: Counter[str] = Counter()
        kinds = {"worker.py": "worker", "start-dev": "Temporal", "postgres": "Postgres", "simulator": "simulator"}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                words = " ".join(process.cmdline())
                kind = next((kind for word, kind in kinds.items() if word in words), "other")
                used[kind] += sum(process.cpu_times()[:2])
        return dict(used)


@asynccontextmanager
async def simulator(*, validating: int = 1, in_progress: int = DAY) -> AsyncIterator[str]:
    """The provider's base URL; batches are checked and run for so many seconds."""
    stages = [f"--validating={validating}", f"--in-progress={in_progress}", f"--window={DAY * 2}"]
    command = [sys.executable, "-m", "overnight.simulator", *stages]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        found = re.search(r"OPENAI_BASE_URL=(\S+)", (await process.stdout.readline()).decode())
        assert found
        yield found[1]
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def worker(site: Site, number: int, options: Sequence[str]) -> AsyncIterator[psutil.Process]:
    log = site.folder / f"worker-{number}.log"
    command = [sys.executable, str(ROOT / "worker.py"), "--import", "judge", "--import", "patience", *options]
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, env=site.environment, stdout=asyncio.subprocess.DEVNULL, stderr=file
        )
    try:
        while "worker is ready" not in log.read_text():
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def site(processes: str, **variables: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as up:
        folder = Path(up.enter_context(tempfile.TemporaryDirectory()))
        stack, url = await up.enter_async_context(running_stack()), await up.enter_async_context(simulator())
        environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
            "OVERNIGHT_DATABASE_URL": stack.postgres.dsn,
            "TEMPORAL_ADDRESS": stack.temporal.address,
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": url,
        }
        settings = Settings(
            database_url=SecretStr(stack.postgres.dsn),
            keys_in_worker_only=True,
            poll_waits=tuple(timedelta(seconds=float(wait)) for wait in variables["OVERNIGHT_POLL_WAITS"].split(",")),
        )
        store = Store.from_settings(settings)
        up.push_async_callback(store.aclose)
        await store.upgrade()
        temporal = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
        client = await up.enter_async_context(
            httpx.AsyncClient(base_url=url.removesuffix("/v1"), headers={"authorization": "Bearer sk-benchmark"})
        )
        made = Site(
            stack, Overnight(settings=settings, store=store, temporal=temporal), client, temporal, environment, folder
        )
        for number, options in enumerate(PROCESSES[processes]):
            made.workers.append(await up.enter_async_context(worker(made, number, options)))
        yield made


async def each(items: Iterable[Any], do: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """All of them, a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        async with room:
            return await do(item)

    return await asyncio.gather(*(one(item) for item in items))


async def made(site: Site, entries: int = 1, **options: Any) -> BatchHandle:
    batch = await site.overnight.create_batch(provider="openai", model=MODEL, **options)
    await batch.add_all(Judge(review=f"Works well, number {number}.") for number in range(entries))
    return batch


async def until_submitted(site: Site, count: int) -> None:
    query = "select count(*) from overnight.batches where provider_batch_id is not null"
    async with await psycopg.AsyncConnection.connect(site.stack.postgres.dsn, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(query)).fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(0.5)


# What histories tell.


@dataclass
class Told:
    """Of some workflows: how late polls were in seconds, and what each added to the history."""

    late: list[float] = field(default_factory=list)
    events: int = 0
    size: int = 0
    polls: int = 0

    @classmethod
    def by(cls, histories: Sequence[Sequence[HistoryEvent]], since: datetime, until: datetime | None = None) -> "Told":
        """What they tell of polls that were due in a time, which may still last."""
        found = cls()
        for events in histories:
            found._take(events, since, until or datetime.now(UTC))
        return found

    def _take(self, events: Sequence[HistoryEvent], since: datetime, until: datetime) -> None:
        waiting: datetime | None = None
        """When the poll is due that has not begun."""
        for event in events:
            at = event.event_time.ToDatetime(UTC)
            match event.event_type:
                case EventType.EVENT_TYPE_TIMER_STARTED:
                    wait = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
                    waiting = at + wait
                case EventType.EVENT_TYPE_TIMER_CANCELED:
                    waiting = None
                case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                    self._note(waiting, at, since, until)
                    waiting = None
        # One that is overdue counts as late as it is by now.
        self._note(waiting, datetime.now(UTC), since, until)
        self._weigh(events)

    def _note(self, due: datetime | None, begun: datetime, since: datetime, until: datetime) -> None:
        if due is not None and since <= due <= min(begun, until):
            self.late.append((begun - due).total_seconds())

    def _weigh(self, events: Sequence[HistoryEvent]) -> None:
        begun = [event.event_id for event in events if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
        if begun[1:]:
            whole = [event for event in events if begun[0] <= event.event_id < begun[-1]]
            self.events, self.size = self.events + len(whole), self.size + sum(one.ByteSize() for one in whole)
            self.polls += len(begun) - 1

    def percentile(self, part: float) -> float:
        return sorted(self.late)[min(int(len(self.late) * part), len(self.late) - 1)]

    def says(self) -> str:
        if not self.late:
            return "none was due"
        return (
            f"{len(self.late)} polls: median {statistics.median(self.late):.2f} s late, "
            f"p99 {self.percentile(0.99):.2f} s, the latest {max(self.late):.2f} s"
        )


async def histories_of(site: Site, batches: Sequence[BatchHandle]) -> list[Sequence[HistoryEvent]]:
    """Of all of them, or of a sample."""

    async def read(batch: BatchHandle) -> Sequence[HistoryEvent]:
        return (await site.temporal.get_workflow_handle(f"batch-{batch.id}").fetch_history()).events

    return await each(batches[:: max(1, len(batches) // SAMPLE)], read)


# The parts.


async def load(asked: argparse.Namespace) -> bool:
    count: int = asked.batches
    waits = "60,120,300,600,1800"
    async with site(asked.processes, OVERNIGHT_POLL_WAITS=waits, OVERNIGHT_CACHED_WORKFLOWS=str(asked.cached)) as here:
        batches = await each(range(count), lambda _: made(here))
        rows, begun, asleep = await started(here, batches)
        print(f"{count:,} batches are asleep; their polls are watched for {asked.minutes:g} minutes.", flush=True)
        used = here.cpu()
        await asyncio.sleep(asked.minutes * 60)
        watched = [("CPU while they are watched", busy(used, here.cpu(), asked.minutes * 60))]
        histories = await histories_of(here, batches)
        ramp, after = Told.by(histories, begun, asleep), Told.by(histories, asleep)
        rows += [
            ("polls while batches still start", ramp.says()),
            ("polls after that", after.says()),
            *watched,
            ("history per poll", f"{after.events / after.polls:.1f} events, {after.size / after.polls:.0f} bytes"),
            *await saturated(here, batches[:AT_ONCE_MOST]),
        ]
        print(f"\n{count:,} batches, {asked.cached:,} workflows cached, {machine()}")
        table(rows)
        return verdict("p99 of lateness", after.percentile(0.99), LATE_SECONDS, at_least=False, unit=" s")


async def started(here: Site, batches: Sequence[BatchHandle]) -> tuple[list[Sequence[object]], datetime, datetime]:
    """All are submitted, as quickly as they go; also says when that began, and when the last one slept."""
    count, before, used = len(batches), here.resident(), here.cpu()
    since, begun = datetime.now(UTC), time.monotonic()
    # The next ones come when these are nearly through, so that what is measured is no queue's length.
    for done in range(0, count, PORTION):
        await until_submitted(here, done - PORTION)
        await each(batches[done : done + PORTION], lambda batch: batch.submit())
    await until_submitted(here, count)
    asleep = time.monotonic() - begun
    rows: list[Sequence[object]] = [
        ("submitted and asleep", f"{count / asleep:.1f} a second, {asleep:.0f} s for all"),
        ("worker memory per batch", f"{(here.resident() - before) / count:.0f} kB"),
        *cost("each start, polls meanwhile included", used, here.cpu(), count),
    ]
    return rows, since, datetime.now(UTC)


def busy(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> str:
    """Parts of a core."""
    used = {kind: (spent - before.get(kind, 0)) / seconds for kind, spent in after.items()}
    return ", ".join(f"{kind} {part:.0%}" for kind, part in sorted(used.items(), key=lambda one: -one[1]))


def cost(what: str, before: Mapping[str, float], after: Mapping[str, float], count: int) -> list[Sequence[object]]:
    used = {kind: (seconds - before.get(kind, 0)) * 1000 / count for kind, seconds in after.items()}
    shown = ", ".join(f"{kind} {ms:.1f} ms" for kind, ms in sorted(used.items(), key=lambda one: -one[1]))
    return [(f"CPU of {what}", shown)]


async def saturated(here: Site, batches: Sequence[BatchHandle]) -> list[Sequence[object]]:
    """All are told to look at once."""
    seen, used, begun = here.polls_seen(), here.cpu(), time.monotonic()
    telling = asyncio.create_task(each(batches, lambda batch: batch.poll_now()))
    while here.polls_seen() < seen + len(batches):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    took = time.monotonic() - begun
    await telling
    busy = sum(here.cpu().values()) - sum(used.values())
    return [
        ("all told to look at once", f"{len(batches) / took:.0f} polls a second, {busy / took:.1f} cores busy"),
        *cost("each poll", used, here.cpu(), len(batches)),
    ]


async def beside(asked: argparse.Namespace, what: str, prepare: Callable[[Site], Awaitable[Any]]) -> bool:
    """Polls every few seconds: for a while undisturbed, and while something heavy is done."""
    async with site(asked.processes, OVERNIGHT_POLL_WAITS=str(DAY)) as here:
        heavy = await prepare(here)
        batches = await each(range(asked.beside), lambda _: made(here, poll_waits=[EVERY]))
        await each([*heavy, *batches], lambda batch: batch.submit())
        await until_submitted(here, len(batches) + len(heavy))
        since = datetime.now(UTC)
        await asyncio.sleep(20)
        alone = Told.by(await histories_of(here, batches), since)
        for batch in heavy:
            url = f"/_simulator/batches/{(await batch.get()).provider_batch_id}"
            (await here.provider.post(url, json={"finish": True}, timeout=600)).raise_for_status()
        since, begun = datetime.now(UTC), time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(batch.wait() for batch in heavy)), asked.window)
        took = time.monotonic() - begun
        disturbed = Told.by(await histories_of(here, batches), since)
        print(f"\nPolls of {len(batches)} batches, every 5 s, worker in {asked.processes} process(es), {machine()}")
        table([("alone", alone.says()), (f"beside {what}, {took:.0f} s", disturbed.says())])
        return verdict(f"p99 beside {what}", disturbed.percentile(0.99), LATE_SECONDS, at_least=False, unit=" s")


async def giant(asked: argparse.Namespace) -> bool:
    async def prepare(here: Site) -> list[BatchHandle]:
        return [await made(here, asked.entries, poll_waits=[EVERY]) for _ in range(asked.giants)]

    return await beside(asked, f"{asked.giants} of {asked.entries:,} entries", prepare)


async def handlers(asked: argparse.Namespace) -> bool:
    async def prepare(here: Site) -> list[BatchHandle]:
        return await each(range(asked.handlers), lambda _: made(here, handler=Patient, poll_waits=[EVERY]))

    return await beside(asked, f"{asked.handlers} handlers of {Patient.SECONDS} s", prepare)


PARTS = {"load": load, "giant": giant, "handlers": handlers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--minutes", type=float, default=5, help="how long the default schedule is watched")
    parser.add_argument("--cached", type=int, default=1_000, help="OVERNIGHT_CACHED_WORKFLOWS")
    parser.add_argument("--beside", type=int, default=20, help="batches that are polled beside heavy work")
    parser.add_argument("--giants", type=int, default=2)
    parser.add_argument("--entries", type=int, default=50_000, help="of each giant; OpenAI takes no more in one batch")
    parser.add_argument("--handlers", type=int, default=40)
    parser.add_argument("--window", type=float, default=600, help="seconds for which heavy work is watched at most")
    parser.add_argument("--processes", choices=PROCESSES, default="one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    good = [asyncio.run(PARTS[part](asked)) for part in asked.parts]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
