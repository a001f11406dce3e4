"""How fast result lines become rows, beside a bare COPY of the same lines: `python benchmarks/ingestion.py`.

The lines come over HTTP from a bare file server and go through the worker's own activity into a durable Postgres. The
bare COPY sends the same lines, escaped beforehand and held in memory, into a table of one column without an index.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import psycopg
from stand import (
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
from overnight.embedded import EmbeddedPostgres
from overnight.storage.store import Store

LIMIT = 0.5
"""The least part of a bare COPY's rate."""
PIECE = 128 * 1024


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        escaped = lines.read().replace(b"\\", b"\\\\")
    yield from (escaped[start : start + PIECE] for start in range(0, len(escaped), PIECE))


def bare_copy(server: EmbeddedPostgres, path: Path, laps: Laps) -> None:
    ready = list(pieces(path))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("drop table if exists public.bare; create table public.bare (line text); checkpoint")
        spent = backends_cpu(server)
        with laps.lap("bare COPY"), connection.cursor().copy("copy public.bare from stdin") as copy:
            for piece in ready:
                copy.write(piece)
        laps.add("bare COPY, CPU of Postgres", spent())


async def ingestion(services: Services, server: EmbeddedPostgres, batch_id: UUID, count: int, laps: Laps) -> None:
    batch = await services.store.batches.get(batch_id)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("checkpoint")
    activities, spent = IngestActivities(services), backends_cpu(server)
    with laps.lap("ingestion"):
        # The activity without the lookup of the batch before it and the sums behind it, which are measured apart.
        ingest = activities._ingest  # noqa: SLF001
        await ActivityEnvironment().run(ingest, batch, report(batch.provider, "over", count))
    laps.add("ingestion, CPU of Postgres", spent())
    with laps.lap("outcomes and sums"):
        await services.store.results.finish(batch_id, price_version=None)
    with psycopg.connect(server.dsn) as connection:
        complete = "select count(*) from overnight.results where batch_id = %s and outcome = 'succeeded' and cost > 0"
        row = connection.execute(complete, [batch_id]).fetchone()
        assert row == (count,), row
        connection.execute("truncate overnight.results")


async def run(provider: str, count: int, rounds: int) -> bool:
    laps = Laps()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.jsonl"
        size = write_lines(path, provider, count)
        async with database() as server:
            with file_server(path) as url:
                services = Services(settings(server, url), Store.from_settings(settings(server)))
                for _ in range(rounds):
                    batch_id = await ended_batch(server, services.store, provider, count)
                    bare_copy(server, path, laps)
                    await ingestion(services, server, batch_id, count, laps)
                await services.aclose()
    print(f"\n{provider}: {count:,} result lines, {size / 1e6:.0f} MB, {rounds} rounds, {machine()}")
    laps.print()
    return verdict("ingestion, as a part of a bare COPY's rate", laps.ratios("bare COPY", "ingestion"), LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--providers", nargs="*", default=["openai", "anthropic"])
    asked = parser.parse_args()
    good = [asyncio.run(run(provider, asked.lines, asked.rounds)) for provider in asked.providers]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
