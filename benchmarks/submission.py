"""How fast entries go in and out: `python benchmarks/submission.py`.

Out: 50,000 entries from Postgres to the provider's accepted upload, against `COPY ... TO STDOUT` of the same requests
plus a bare upload of the same bytes to the same server. In: `add_all` of 100,000 small tasks, rendering included,
against `COPY ... FROM STDIN` of the same rows, ready made. Everything runs several times in turn, and medians count.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psycopg
from pydantic import SecretStr

from overnight import Overnight, RawRequest, Settings, Task
from overnight.embedded import EmbeddedPostgres
from overnight.providers import open_provider
from overnight.providers._openai_facts import framed
from overnight.providers.base import Submission
from overnight.storage.store import Store

OUT, IN = 50_000, 100_000
REVIEW = "It works like a charm, most of the time, and then it does not. I would buy it again, perhaps. "


class Rate(Task[str], name="benchmark.rate"):
    review: str
    system = "You judge product reviews."
    max_tokens = 50

    def prompt(self) -> str:
        return f"How does this reviewer feel about the product?\n\n{self.review}"


async def sink() -> None:
    """A server that reads a request to its end, says what an accepted file is answered with, and keeps nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            left = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            answer = b'{"id": "file-1", "object": "file"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
            )
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(f"OPENAI_BASE_URL=http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@contextmanager
def server(kind: str) -> Iterator[str]:
    """A server in a process of its own, and OpenAI's base URL there."""
    command = ["-m", "overnight.simulator"] if kind == "simulator" else [__file__, "--sink"]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield next(word.partition("=")[2] for word in words if word.startswith("OPENAI_BASE_URL="))
        process.terminate()


async def medians(rounds: int, **runs: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Seconds that each takes; they take turns, so that a busy moment of the machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            await run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


class Bench:
    def __init__(self, dsn: str, rounds: int) -> None:
        self.dsn, self.rounds = dsn, rounds
        self.settings = Settings(
            database_url=SecretStr(dsn), openai_api_key=SecretStr("sk-b"), keys_in_worker_only=True
        )
        self.store = Store.from_settings(self.settings)
        self.overnight = Overnight(settings=self.settings, store=self.store, temporal=cast("Any", None))

    async def out(self) -> None:
        batch = await self.overnight.create_batch(provider="openai", model="gpt-5.4-mini")
        await batch.add_all(Rate(review=f"{number}. {REVIEW * 4}") for number in range(OUT))
        self.batch = await batch.get()
        body = await self.body()
        await self.read_ahead()
        read = await medians(self.rounds, pages=self.read_ahead, estimate=batch.estimate)
        say(f"pages of {OUT:,} entries, {len(body) / 1e6:.0f} MB, read and thrown away", read["pages"], OUT)
        say("estimate()", read["estimate"], OUT)
        for kind in ("sink", "simulator"):
            with server(kind) as url:
                found = await medians(
                    self.rounds,
                    copy=self.copy,
                    bare=lambda url=url: self.bare(url, body),
                    ours=lambda url=url: self.ours(url),
                )
            floor = found["copy"] + found["bare"]
            print(f"{kind}: ours runs at {floor / found['ours']:.2f} of the rate of COPY plus a bare upload")
            say("  COPY TO STDOUT of the requests", found["copy"], OUT)
            say(f"  bare upload to the {kind}", found["bare"], OUT)
            say("  ours, from rows to the accepted upload", found["ours"], OUT)

    async def body(self) -> bytes:
        pages = [framed(page, self.batch.endpoint) async for page in self.store.entries.pages(self.batch.id)]
        return b"".join(pages)

    async def read_ahead(self) -> None:
        async for _ in self.store.entries.pages(self.batch.id):
            pass

    async def copy(self) -> None:
        query = "copy (select request from overnight.entries where batch_id = %s order by position) to stdout"
        async with self.copying(query, self.batch.id) as copy:
            async for _ in copy:
                pass

    @asynccontextmanager
    async def copying(self, statement: str, *parameters: object) -> AsyncIterator[psycopg.AsyncCopy]:
        async with (
            await psycopg.AsyncConnection.connect(self.dsn) as connection,
            connection.cursor() as cursor,
            cursor.copy(statement, parameters) as copy,
        ):
            yield copy

    async def bare(self, url: str, body: bytes) -> None:
        head = (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="b.jsonl"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n"
        )
        headers = {"authorization": "Bearer sk-b", "content-type": "multipart/form-data; boundary=b"}
        async with httpx.AsyncClient(timeout=600) as client:
            answer = await client.post(url + "/files", content=head + body + b"\r\n--b--\r\n", headers=headers)
        answer.raise_for_status()

    async def ours(self, url: str) -> None:
        provider = open_provider("openai", self.settings.model_copy(update={"openai_base_url": url}))
        submission = Submission(
            batch_id=self.batch.id,
            token="benchmrk",
            model=self.batch.model,
            endpoint=self.batch.endpoint,
            entry_count=self.batch.entry_count,
            request_bytes=self.batch.request_bytes,
        )
        assert await provider.upload(submission, lambda: self.store.entries.pages(self.batch.id))
        await provider.aclose()

    async def into(self) -> None:
        rows = await self.rows()
        found = await medians(
            self.rounds,
            copy=lambda: self.copy_in(rows),
            tasks=lambda: self.add(self.tasks()),
            raw=lambda: self.add(self.raw()),
        )
        print(f"add_all of tasks runs at {found['copy'] / found['tasks']:.2f} of the rate of COPY of ready-made rows")
        say(f"  COPY FROM STDIN of {IN:,} rows, ready made", found["copy"], IN)
        say(f"  add_all of {IN:,} small tasks", found["tasks"], IN)
        say(f"  add_all of {IN:,} raw requests", found["raw"], IN)

    def tasks(self) -> Iterator[Rate]:
        return (Rate(review=f"{number}. {REVIEW}") for number in range(IN))

    def raw(self) -> Iterator[RawRequest]:
        messages = [{"role": "user", "content": REVIEW}]
        return (
            RawRequest(body={"model": "claude-haiku-4-5", "max_tokens": 50, "messages": messages}) for _ in range(IN)
        )

    async def add(self, items: Iterator[Any]) -> None:
        batch = await self.overnight.create_batch(provider="anthropic", model="claude-haiku-4-5")
        assert await batch.add_all(items) == IN
        self.last = batch.id

    async def rows(self) -> list[bytes]:
        await self.add(self.tasks())
        columns = "position, custom_id, task, fields, request"
        query = f"copy (select {columns} from overnight.entries where batch_id = %s) to stdout"
        async with self.copying(query, self.last) as copy:
            return [bytes(row) async for row in copy]

    async def copy_in(self, rows: list[bytes]) -> None:
        batch = await self.overnight.create_batch(provider="anthropic", model="claude-haiku-4-5")
        head = f"{batch.id}\t".encode()
        statement = "copy overnight.entries (batch_id, position, custom_id, task, fields, request) from stdin"
        async with self.copying(statement) as copy:
            for start in range(0, len(rows), 500):
                await copy.write(b"".join([head + row for row in rows[start : start + 500]]))


def say(what: str, seconds: float, entries: int) -> None:
    print(f"{what:70} {seconds:7.2f} s {entries / seconds:10,.0f} a second")


async def main(rounds: int, parts: list[str]) -> None:
    async with EmbeddedPostgres() as postgres:
        bench = Bench(postgres.dsn, rounds)
        await bench.store.upgrade()
        print(f"{os.cpu_count()} cores, medians of {rounds}")
        for part in parts:
            await getattr(bench, part)()
        await bench.store.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=("out", "into"), default=["out", "into"])
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(sink() if options.sink else main(options.rounds, options.parts))
