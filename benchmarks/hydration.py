"""How fast responses become typed outputs, and what of that is pydantic's: `python benchmarks/hydration.py`.

The same lines are hydrated by the worker's own activity into a durable Postgres, and, for comparison, put through their
Task alone, without any database. Hydration is to be bound by that, and by neither the database nor our own code: so at
least half of the worker's time is to be the Task's.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import psycopg
from judge import Judge
from stand import (
    ENDPOINTS,
    Laps,
    backends_cpu,
    database,
    ended_batch,
    file_server,
    machine,
    report,
    settings,
    verdict,
    write_lines,
)
from temporalio.testing import ActivityEnvironment

from activities import Services
from activities.finalize import IngestActivities
from overnight.contracts import BatchRef
from overnight.handling import HydrateActivities
from overnight.providers import provider_facts
from overnight.storage.store import Store

LIMIT = 0.5
"""The least part of the worker's CPU that is the Task's own."""
FIELDS = '{"review":"Works well."}'


def tasks_alone(path: Path, provider: str, laps: Laps) -> None:
    facts, endpoint = provider_facts(provider), ENDPOINTS[provider]
    lines = path.read_bytes().splitlines()
    with laps.lap("the Task alone"):
        for line in lines:
            Judge.dump_output(Judge.load_fields(FIELDS).read(facts.read_response(line, endpoint=endpoint)))


async def ingested(services: Services, batch_id: UUID, count: int) -> None:
    batch = await services.store.batches.get(batch_id)
    step = IngestActivities(services)._ingest  # noqa: SLF001
    await ActivityEnvironment().run(step, batch, report(batch.provider, "over", count))
    await services.store.results.finish(batch_id, price_version=None)


async def run(provider: str, count: int, rounds: int) -> bool:
    laps = Laps()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.jsonl"
        write_lines(path, provider, count)
        async with database() as server:
            with file_server(path) as url:
                services = Services(settings(server, url), Store.from_settings(settings(server)))
                for _ in range(rounds):
                    batch_id = await ended_batch(server, services.store, provider, count)
                    await ingested(services, batch_id, count)
                    tasks_alone(path, provider, laps)
                    spent = backends_cpu(server)
                    with laps.lap("hydration"):
                        order = BatchRef(batch_id=batch_id)
                        done = await ActivityEnvironment().run(HydrateActivities(services).hydrate_results, order)
                    laps.add("hydration, CPU of Postgres", spent())
                    assert done.outcomes == {"succeeded": count}, done
                    with psycopg.connect(server.dsn) as connection:
                        connection.execute("truncate overnight.results, overnight.outputs, overnight.entries")
                await services.aclose()
    print(f"\n{provider}: {count:,} typed outputs, {rounds} rounds, {machine()}")
    laps.print()
    print(f"     its rate, as a part of the Task's alone: {laps.ratios('the Task alone', 'hydration'):.2f}")
    cpu = laps.ratios("the Task alone, CPU of this process", "hydration, CPU of this process")
    return verdict("of the worker's CPU the Task's own", cpu, LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--providers", nargs="*", default=["openai", "anthropic"])
    asked = parser.parse_args()
    good = [asyncio.run(run(provider, asked.lines, asked.rounds)) for provider in asked.providers]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
