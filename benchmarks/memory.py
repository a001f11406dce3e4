"""What each step of a batch's life holds in memory, however large the batch: `python benchmarks/memory.py`.

Every figure is from a process of its own: the peak of its resident memory while it does the step, over what it held
before, connected and idle. The database and the file server are other processes.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import httpx
from judge import Judge
from pydantic import SecretStr
from sqlalchemy import text
from stand import (
    MODELS,
    database,
    ended_batch,
    file_server,
    machine,
    new_batch,
    report,
    settings,
    table,
    verdict,
    write_lines,
)
from temporalio.testing import ActivityEnvironment

from activities import Services
from activities.finalize import IngestActivities
from overnight.contracts import BatchRef, DispatchRequest
from overnight.embedded import EmbeddedPostgres
from overnight.exports import ExportFormat, export, open_writer
from overnight.handling import HydrateActivities
from overnight.handling.dispatch import DispatchActivities
from overnight.ids import new_batch_id
from overnight.intake import Intake, room
from overnight.providers import provider_facts
from overnight.providers._openai_facts import OpenAIFacts
from overnight.providers.base import Limits
from overnight.providers.openai import OpenAI
from overnight.settings import Settings
from overnight.storage.database import create_engine
from overnight.storage.entries import NewEntry
from overnight.storage.store import Store

LIMIT_MIB = 64
GROWTH_MIB = 16
"""By which two sizes may differ and still pass for the same: what the allocator keeps varies from run to run."""
BLOCKS = 100_000
"""From so many entries on a batch is many blocks and pages, and growth would mean something."""
STEPS = ("add", "submit", "ingest", "hydrate", "dispatch", "export")


class Sink(httpx.AsyncBaseTransport):
    """A provider that takes a file of any size, and keeps nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:
            pass
        return httpx.Response(200, json={"id": "file"})


async def add(services: Services, _: UUID, count: int) -> None:
    facts = provider_facts("openai")
    intake = Intake(facts, model=MODELS["openai"], endpoint=facts.endpoints[0])

    async def made() -> AsyncIterator[NewEntry]:
        for number in range(count):
            yield intake.entry(Judge(review=f"Works like a charm, number {number}."))

    batch_id = new_batch_id()
    await services.store.batches.create(new_batch("openai", batch_id))
    await services.store.entries.add(batch_id, made(), room(facts))


async def submit(services: Services, batch_id: UUID, _: int) -> None:
    provider = OpenAI(api_key="sk-benchmark", base_url="http://sink", transport=Sink())
    submission = await services.store.submissions.current(batch_id)
    await provider.upload(submission, lambda: services.store.entries.pages(batch_id))


async def ingest(services: Services, batch_id: UUID, count: int) -> None:
    batch, over = await services.store.batches.get(batch_id), report("openai", "over", count)
    step = IngestActivities(services)._ingest  # noqa: SLF001 - the rest of the activity asks the provider
    await ActivityEnvironment().run(step, batch, over)
    await services.store.results.finish(batch_id, price_version=None)


async def hydrate(services: Services, batch_id: UUID, _: int) -> None:
    await ActivityEnvironment().run(HydrateActivities(services).hydrate_results, BatchRef(batch_id=batch_id))


async def dispatch(services: Services, batch_id: UUID, _: int) -> None:
    """To a handler that reads every entry."""
    named = text("update overnight.batches set handler = 'ReadAll' where id = :id")
    async with create_engine(services.settings.sqlalchemy_url).begin() as connection:
        await connection.execute(named, {"id": batch_id})
    request = DispatchRequest(batch_id=batch_id)
    assert (await ActivityEnvironment().run(DispatchActivities(services).dispatch_handler, request)).ran


async def export_lines(services: Services, batch_id: UUID, count: int) -> None:
    """As `overnight results` does."""
    with Path("/dev/null").open("wb") as sink:  # noqa: ASYNC230
        writer = open_writer(ExportFormat.JSONL, sink)
        assert await export(services.store, await services.store.batches.get(batch_id), writer) == count


def resident(name: str) -> float:
    """`VmRSS`, or `VmHWM` for its peak, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


async def measure(step: str, connection: Settings, batch_id: UUID, count: int) -> float:
    """The peak of this process over its idle level."""
    # Whatever a provider takes at most: how much this holds does not depend on it.
    OpenAIFacts.limits = Limits(
        max_entries=10**9, max_bytes=10**15, custom_id_pattern=OpenAIFacts.limits.custom_id_pattern
    )
    services = Services(connection, Store.from_settings(connection))
    await services.store.batches.get(batch_id)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # noqa: ASYNC240 - the peak begins anew
    idle = resident("VmRSS")
    steps: dict[str, Callable[[Services, UUID, int], Awaitable[None]]] = {
        "add": add,
        "submit": submit,
        "ingest": ingest,
        "hydrate": hydrate,
        "dispatch": dispatch,
        "export": export_lines,
    }
    await steps[step](services, batch_id, count)
    peak = resident("VmHWM") - idle
    await services.aclose()
    return peak


def in_its_own_process(step: str, server: EmbeddedPostgres, url: str, batch_id: UUID, count: int) -> float:
    order = json.dumps([step, server.dsn, url, str(batch_id), count])
    done = subprocess.run([sys.executable, __file__, "--order", order], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def obey(order: str) -> None:
    step, dsn, url, batch_id, count = json.loads(order)
    connection = Settings(database_url=SecretStr(dsn), openai_api_key=SecretStr("sk-benchmark"), openai_base_url=url)
    print(asyncio.run(measure(step, connection, UUID(batch_id), count)))


async def run(counts: list[int], steps: list[str], rows: dict[str, list[float]]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lines.jsonl"
            write_lines(path, "openai", count)
            async with database() as server:
                store = Store.from_settings(settings(server))
                batch_id = await ended_batch(server, store, "openai", count)
                await store.aclose()
                with file_server(path) as url:
                    for step in steps:
                        peak = await asyncio.to_thread(in_its_own_process, step, server, url, batch_id, count)
                        rows.setdefault(step, []).append(peak)
                        print(f"  {step}, {count:,} entries: {peak:.1f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=list(STEPS))
    parser.add_argument("--order", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.order:
        obey(asked.order)
        return
    rows: dict[str, list[float]] = {}
    asyncio.run(run(asked.entries, asked.steps, rows))
    print(f"\nPeak of resident memory over the idle level, {machine()}")
    head = ["step", *(f"{count:,}" for count in asked.entries)]
    table([head, *([step, *(f"{peak:.1f} MiB" for peak in peaks)] for step, peaks in rows.items())])
    good = [
        verdict("the highest peak", max(max(peaks) for peaks in rows.values()), LIMIT_MIB, at_least=False, unit=" MiB"),
        *(
            verdict(
                f"{step}: the largest batch over the middle one",
                peaks[-1] - peaks[-2],
                GROWTH_MIB,
                at_least=False,
                unit=" MiB",
            )
            for step, peaks in rows.items()
            if asked.entries[-2:-1] >= [BLOCKS]
        ),
    ]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
