"""relay-llm, driven through its public names. Without tiktoken, which downloads its tables: it estimates by length."""

import asyncio
from pathlib import Path

from relay import BatchClient, BatchConfig, BatchRequest, JobStatus
from relay.config import RelayConfig
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, messages

NAME = "benchmark"


async def submit(client: BatchClient, count: int) -> None:
    # The model stands in each request: that of the config does not reach the wire.
    requests = [
        BatchRequest(id=str(number), messages=messages(number), model=MODEL, max_tokens=MAX_TOKENS)
        for number in range(count)
    ]
    await client.submit(requests, BatchConfig(provider="openai", model=MODEL, name=NAME))


async def collect(client: BatchClient, count: int) -> None:
    # Not its wait(), which does not end at DOWNLOADING.
    while (job := await client.get_job(NAME)).status is JobStatus.IN_PROGRESS:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    results = await client.download(job.id)
    assert sum(result.error is None and bool(result.content) for result in results) == count, len(results)


async def main(phase: str, count: int, folder: Path) -> None:
    async with BatchClient(RelayConfig(db_path=str(folder / "relay.db"))) as client:
        await (submit if phase == "submit" else collect)(client, count)


if __name__ == "__main__":
    asyncio.run(main(*called()))
