"""What the benchmarks stand on: a durable Postgres, a bare HTTP file server, result lines, clocks and tables."""

import hashlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
from pydantic import SecretStr

from overnight.batches import BatchStatus, Progress
from overnight.embedded import EmbeddedPostgres
from overnight.ids import new_batch_id
from overnight.providers.base import ProviderReport
from overnight.schedule import PollSchedule
from overnight.settings import Settings
from overnight.simulator.jsontext import dump
from overnight.storage.batches import NewBatch
from overnight.storage.store import Store

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
ENDPOINTS = {"openai": "/v1/responses", "anthropic": "/v1/messages"}
TASK = "Judge"
TOKEN = "bench123"
WORDS = ("the", "model", "answers", "with", "a", "short", "text", "about", "something", "that", "readers", "like")
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}, "quote": {"type": "string"}},
    "required": ["label", "confidence", "quote"],
    "additionalProperties": False,
}


def _answer(rng: random.Random, low: int = 20) -> str:
    quote = " ".join(rng.choices(WORDS, k=rng.randrange(low, low * 2)))
    return json.dumps({"label": "positive", "confidence": round(rng.random(), 2), "quote": quote})


def _openai_line(number: int, rng: random.Random) -> dict[str, Any]:
    """As the Responses API answers a structured request; about 1,700 bytes."""
    mark = hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
    spent, made = rng.randrange(50, 900), rng.randrange(10, 400)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": _answer(rng)}
    message = {"id": f"msg_{mark}", "type": "message", "status": "completed", "content": [part], "role": "assistant"}
    form = {"type": "json_schema", "name": TASK, "description": None, "strict": True, "schema": SCHEMA}
    body = {
        "id": f"resp_{mark}",
        "object": "response",
        "created_at": 1763800000,
        "status": "completed",
        "background": False,
        "completed_at": 1763800001,
        "error": None,
        "incomplete_details": None,
        "output": [message],
        "instructions": "You judge product reviews.",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": MODELS["openai"],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "temperature": 1.0,
        "text": {"format": form, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "metadata": {},
        "usage": {
            "input_tokens": spent,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": spent + made,
        },
    }
    response = {"status_code": 200, "request_id": mark, "body": body}
    return {"id": f"batch_req_{mark}", "custom_id": f"{TASK}-{number}", "response": response, "error": None}


def _anthropic_line(number: int, rng: random.Random) -> dict[str, Any]:
    mark = hashlib.blake2b(str(number).encode(), digest_size=12).hexdigest()
    message = {
        "id": f"msg_{mark}",
        "type": "message",
        "role": "assistant",
        "model": MODELS["anthropic"],
        "content": [{"type": "text", "text": _answer(rng, 150)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": rng.randrange(50, 900),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": rng.randrange(10, 400),
            "service_tier": "batch",
        },
    }
    return {"custom_id": f"{TASK}-{number}-{TOKEN}", "result": {"type": "succeeded", "message": message}}


def write_lines(path: Path, provider: str, count: int) -> int:
    """Result lines in another order than that of the entries, as providers give them. Returns their bytes."""
    make = {"openai": _openai_line, "anthropic": _anthropic_line}[provider]
    rng, order = random.Random(7), list(range(1, count + 1))
    rng.shuffle(order)
    with path.open("wb") as lines:
        for number in order:
            lines.write(dump(make(number, rng)) + b"\n")
        return lines.tell()


_SERVER = """
import os, re, socket, sys
path = sys.argv[1]
size, listener = os.path.getsize(path), socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    request = b""
    while b"\\r\\n\\r\\n" not in request:
        request += connection.recv(65536)
    asked = re.search(rb"(?i)range: bytes=(\\d+)-", request)
    start = int(asked[1]) if asked else 0
    part = b"206 Partial Content\\r\\ncontent-range: bytes %d-%d/%d" % (start, size - 1, size)
    status = part if asked else b"200 OK"
    head = b"HTTP/1.1 %b\\r\\ncontent-type: text/plain\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n"
    try:
        connection.sendall(head % (status, size - start))
        with open(path, "rb") as file:
            connection.sendfile(file, start)
    except OSError:
        pass
    connection.close()
"""


@contextmanager
def file_server(path: Path) -> Iterator[str]:
    """One file under every path, from a process of its own that does next to nothing."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def database() -> AsyncIterator[EmbeddedPostgres]:
    """A Postgres as it comes, durable, with this code's tables."""
    server = EmbeddedPostgres()
    await server.start()
    try:
        store = Store.from_settings(settings(server))
        await store.upgrade()
        await store.aclose()
        yield server
    finally:
        await server.stop()


def settings(server: EmbeddedPostgres, url: str = "http://127.0.0.1:9") -> Settings:
    return Settings(
        database_url=SecretStr(server.dsn),
        openai_api_key=SecretStr("sk-benchmark"),
        openai_base_url=url,
        anthropic_api_key=SecretStr("sk-benchmark"),
        anthropic_base_url=url,
    )


_FILL = """
insert into overnight.entries (batch_id, position, custom_id, task, fields, request)
select %(batch)s, n, %(task)s::text || '-' || n, %(task)s, json_build_object('review', 'Works well, number ' || n),
       '{"model":"m","input":"' || repeat('How does this reviewer feel? ', 20) || n || '"}'
from generate_series(1, %(count)s) n
"""


_COUNT = """
update overnight.batches set entry_count = %s, request_bytes = (
    select sum(octet_length(custom_id) + octet_length(request)) from overnight.entries where batch_id = %s
) where id = %s
"""


def new_batch(provider: str, batch_id: UUID) -> NewBatch:
    return NewBatch(
        id=batch_id,
        provider=provider,
        model=MODELS[provider],
        endpoint=ENDPOINTS[provider],
        handler=None,
        handler_task_queue=None,
        metadata={},
        schedule=PollSchedule(),
    )


async def ended_batch(server: EmbeddedPostgres, store: Store, provider: str, count: int) -> UUID:
    """A batch that the provider has ended, whose entries have the ids that `write_lines` answers."""
    new = new_batch(provider, new_batch_id())
    await store.batches.create(new)
    with psycopg.connect(server.dsn) as connection:
        connection.execute(_FILL, {"batch": new.id, "task": TASK, "count": count})
        connection.execute(_COUNT, [count, new.id, new.id])
    await store.batches.claim(new.id, f"batch-{new.id}")
    await store.submissions.current(new.id)
    await store.submissions.record_intent(new.id, None)
    with psycopg.connect(server.dsn) as connection:
        connection.execute("update overnight.submissions set token = %s where batch_id = %s", [TOKEN, new.id])
    await store.submissions.accept(new.id, report(provider, str(new.id), count, BatchStatus.IN_PROGRESS))
    await store.batches.record_report(new.id, report(provider, str(new.id), count))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("vacuum analyze overnight.entries")  # as it will have been, hours after the adding
    return new.id


def report(
    provider: str, provider_batch_id: str, count: int, status: BatchStatus = BatchStatus.ENDED
) -> ProviderReport:
    return ProviderReport(
        provider_batch_id=provider_batch_id,
        status=status,
        status_word="over",
        progress=Progress(total=count, done=count),
        details={"output_file_id": "file"} if provider == "openai" else {},
    )


def backends_cpu(server: EmbeddedPostgres) -> Callable[[], float]:
    """CPU seconds of all server processes since the last call, those of processes that are gone left out."""
    parent = psutil.Process(server.pid)
    before: dict[int, float] = {}

    def spent() -> float:
        total = 0.0
        for process in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                now = times.user + times.system
                total += now - before.get(process.pid, 0.0)
                before[process.pid] = now
        return total

    spent()
    return spent


@dataclass
class Laps:
    """Named durations over several rounds."""

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        self.rounds.setdefault(name, []).append(seconds)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.add(name, time.perf_counter() - wall)
        self.add(f"{name}, CPU of this process", time.process_time() - cpu)

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratios(self, name: str, over: str) -> float:
        """The median of ratios of laps of the same round: what the machine does meanwhile weighs on both."""
        return statistics.median(a / b for a, b in zip(self.rounds[name], self.rounds[over], strict=True))

    def print(self) -> None:
        table([(name, f"{self.median(name):8.2f} s", spread(laps)) for name, laps in self.rounds.items()])


def spread(laps: Sequence[float]) -> str:
    return f"({min(laps):.2f} to {max(laps):.2f})"


def table(rows: Sequence[Sequence[object]]) -> None:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def verdict(what: str, value: float, limit: float, *, at_least: bool = True, unit: str = "") -> bool:
    """Print a figure beside its limit."""
    good = value >= limit if at_least else value <= limit
    word = "at least" if at_least else "at most"
    print(f"{'ok  ' if good else 'MISS'} {what}: {value:.2f}{unit} ({word} {limit:g}{unit})", flush=True)
    return good


def machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"


numbers = itertools.count(1)
Figures = Mapping[str, float]
