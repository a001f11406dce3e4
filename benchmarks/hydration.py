"""How fast responses become typed outputs, and what of that is pydantic's: `python benchmarks/hydration.py`.

The same lines are hydrated by the worker's own activity into a durable Postgres, and, for comparison, put through their
Task alone, without any database. The ratio says how much the database and all our own code add.
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
from stand import ENDPOINTS, Laps, database, ended_batch, file_server, machine, report, settings, verdict, write_lines
from temporalio.testing import ActivityEnvironment

from activities import Services
from activities.finalize import IngestActivities
from overnight.contracts import BatchRef
from overnight.handling import HydrateActivities
from overnight.providers import provider_facts
from overnight.storage.store import Store

LIMIT = 0.5
"""The least part of the rate of the Task alone."""
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
                    with laps.lap("hydration"):
                        order = BatchRef(batch_id=batch_id)
                        done = await ActivityEnvironment().run(HydrateActivities(services).hydrate_results, order)
                    assert done.outcomes == {"succeeded": count}, done
                    with psycopg.connect(server.dsn) as connection:
                        connection.execute("truncate overnight.results, overnight.outputs, overnight.entries")
                await services.aclose()
    print(f"\n{provider}: {count:,} typed outputs, {rounds} rounds, {machine()}")
    laps.print()
    return verdict("hydration, as a part of the Task's own rate", laps.ratios("the Task alone", "hydration"), LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--providers", nargs="*", default=["openai"])
    asked = parser.parse_args()
    good = [asyncio.run(run(provider, asked.lines, asked.rounds)) for provider in asked.providers]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
