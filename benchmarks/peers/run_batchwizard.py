"""batchwizard, driven through its public names: `run_batchwizard.py submit|collect COUNT FOLDER`."""

import asyncio
import json
import sys
from pathlib import Path

from batchwizard.processor import BatchOrchestrator
from batchwizard.providers.openai import OpenAIBatchProvider
from batchwizard.store import JobStore

ENDPOINT = "/v1/chat/completions"


def write(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            message = {"role": "user", "content": f"Is this a good review? {number}. " * 12}
            body = {"model": "gpt-5.4-mini", "messages": [message], "max_completion_tokens": 1024}
            line = {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": body}
            file.write(json.dumps(line) + "\n")


async def main(phase: str, count: int, folder: Path) -> None:
    store = JobStore(folder / "jobs.db")
    orchestrator = BatchOrchestrator(OpenAIBatchProvider(), store, check_interval=0.5)
    if phase == "submit":
        write(folder / "input.jsonl", count)
        assert await orchestrator.submit_paths([folder / "input.jsonl"], ENDPOINT)
        return
    (job,) = await orchestrator.watch(store.list(), folder / "results")
    assert job.output_path
    assert Path(job.output_path).read_bytes().count(b"\n") == count  # noqa: ASYNC240


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
