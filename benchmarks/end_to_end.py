"""How long it takes from a provider's "ended" to a handler's first line: `python benchmarks/end_to_end.py`.

Everything runs: Temporal, a durable Postgres and the provider simulator as processes, the worker in this one. The
simulator's clock is moved until the batch has ended there; then the workflow is told to look (`poll_now`), so that no
wait for the next poll is in the figures.
"""

import argparse
import asyncio
import logging
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import httpx
from judge import Judge
from pydantic import SecretStr
from stand import Laps, machine
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import Services
from overnight import BatchHandler, Overnight
from overnight.batches import BatchStatus
from overnight.embedded import Stack, running_stack
from overnight.settings import Settings
from overnight.storage.store import Store
from worker import compose

MODEL = "claude-haiku-4-5"
HOUR = 3600


class Stopwatch(BatchHandler):
    """Notes when it is reached."""

    reached: ClassVar[asyncio.Queue[float]]

    async def on_completion(self) -> None:
        self.reached.put_nowait(time.perf_counter())


@asynccontextmanager
async def simulator() -> AsyncIterator[str]:
    """The provider, in a process of its own, with batches that run for an hour of its clock."""
    command = [sys.executable, "-m", "overnight.simulator", f"--in-progress={HOUR}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        found = re.search(r"ANTHROPIC_BASE_URL=(\S+)", (await process.stdout.readline()).decode())
        assert found
        yield found[1]
    finally:
        process.terminate()
        await process.wait()


async def end_at_the_provider(url: str, provider_batch_id: str) -> None:
    async with httpx.AsyncClient(
        base_url=url, headers={"x-api-key": "sk-benchmark", "anthropic-version": "2023-06-01"}, timeout=300
    ) as client:
        (await client.post("/_simulator/advance", json={"seconds": 2 * HOUR})).raise_for_status()
        path = f"/v1/messages/batches/{provider_batch_id}"
        while (await client.get(path)).json()["processing_status"] != "ended":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        async with client.stream("GET", f"{path}/results") as results:
            await anext(results.aiter_bytes())


async def one(overnight: Overnight, url: str, count: int, laps: Laps) -> None:
    batch = await overnight.create_batch(provider="anthropic", model=MODEL, handler=Stopwatch)
    await batch.add_all(Judge(review=f"Works well, number {number}.") for number in range(count))
    await batch.submit()
    while (known := await batch.get()).status is BatchStatus.PENDING or known.provider_batch_id is None:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await end_at_the_provider(url, known.provider_batch_id)
    begun = time.perf_counter()
    await batch.poll_now()
    laps.add(f"{count:,} entries", await Stopwatch.reached.get() - begun)
    finished = await batch.wait()
    assert sum(finished.outcomes.values()) == count, finished


async def run(stack: Stack, counts: list[int], rounds: int) -> Laps:
    laps = Laps()
    Stopwatch.reached = asyncio.Queue()
    async with simulator() as url:
        settings = Settings(
            database_url=SecretStr(stack.postgres.url),
            task_queue=f"benchmark-{secrets.token_hex(4)}",
            anthropic_api_key=SecretStr("sk-benchmark"),
            anthropic_base_url=url,
            poll_waits=(timedelta(hours=1),),
        )
        store = Store.from_settings(settings)
        await store.upgrade()
        temporal = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
        services = Services(settings, Store.from_settings(settings))
        async with compose(temporal, services):
            overnight = Overnight(settings=settings, store=store, temporal=temporal)
            await one(overnight, url, 1, Laps())  # the first life also opens connections
            for count in counts:
                for _ in range(rounds if count < 100_000 else 1):
                    await one(overnight, url, count, laps)
        await services.aclose()
        await store.aclose()
    return laps


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, nargs="*", default=[1, 1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    async with running_stack() as stack:
        laps = await run(stack, asked.entries, asked.rounds)
    print(f"\nFrom the provider's \"ended\" to the handler's first line, without the wait for a poll, {machine()}")
    laps.print()


if __name__ == "__main__":
    asyncio.run(main())
