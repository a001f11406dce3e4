"""batchwizard, driven through its public names."""

import asyncio
from pathlib import Path

from batchwizard.processor import BatchOrchestrator
from batchwizard.providers.openai import OpenAIBatchProvider
from batchwizard.store import JobStore
from same import ENDPOINT, POLL_SECONDS, called, count_lines, write_input


async def main(phase: str, count: int, folder: Path) -> None:
    store = JobStore(folder / "jobs.db")
    orchestrator = BatchOrchestrator(OpenAIBatchProvider(), store, check_interval=POLL_SECONDS)
    if phase == "submit":
        assert await orchestrator.submit_paths([write_input(folder, count)], ENDPOINT)
        return
    (job,) = await orchestrator.watch(store.list(), folder / "results")
    assert job.output_path
    assert count_lines(Path(job.output_path)) == count


if __name__ == "__main__":
    asyncio.run(main(*called()))
