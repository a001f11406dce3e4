"""batchwork-ai, driven through its public names. What it does not keep, the id and the results, the driver writes."""

import asyncio
import os
from pathlib import Path

from batchwork import BatchProvider, BatchRef, BatchRequest, BatchResultStatus, Batchwork
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, prompt


async def submit(client: Batchwork, count: int, note: Path) -> None:
    requests = [
        BatchRequest(custom_id=str(number), prompt=prompt(number), max_output_tokens=MAX_TOKENS)
        for number in range(count)
    ]
    job = await client.batch(model=f"openai/{MODEL}", requests=requests, base_url=os.environ["OPENAI_BASE_URL"])
    note.write_text(job.id)  # noqa: ASYNC240


async def collect(client: Batchwork, count: int, note: Path) -> None:
    ref = BatchRef(id=note.read_text(), provider=BatchProvider.OPENAI, base_url=os.environ["OPENAI_BASE_URL"])  # noqa: ASYNC240
    job, succeeded = await client.get_batch(ref), 0
    await job.wait(poll_interval=POLL_SECONDS)
    with note.with_name("output.jsonl").open("w") as file:
        async for result in job.results():
            succeeded += result.status is BatchResultStatus.SUCCEEDED
            file.write(result.model_dump_json(exclude_none=True) + "\n")
    assert succeeded == count, succeeded


async def main(phase: str, count: int, folder: Path) -> None:
    async with Batchwork() as client:
        await (submit if phase == "submit" else collect)(client, count, folder / "batch")


if __name__ == "__main__":
    asyncio.run(main(*called()))
