"""langasync, driven through its public names. It keeps its jobs, but no results: the driver writes them."""

import asyncio
import json
from pathlib import Path

from langasync import BatchPoller, LangasyncSettings, batch_chain
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, prompt


async def submit(settings: LangasyncSettings, count: int) -> None:
    model = ChatOpenAI(model=MODEL, model_kwargs={"max_completion_tokens": MAX_TOKENS})
    chain = ChatPromptTemplate.from_messages([("user", "{text}")]) | model | StrOutputParser()
    await batch_chain(chain, settings).submit([{"text": prompt(number)} for number in range(count)])


async def collect(settings: LangasyncSettings, count: int, output: Path) -> None:
    (done,) = [processed async for processed in BatchPoller(settings).wait_all()]
    assert done.results is not None
    with output.open("w") as file:
        file.writelines(json.dumps(result) + "\n" for result in done.results if isinstance(result, str))
    assert sum(isinstance(result, str) for result in done.results) == count


async def main(phase: str, count: int, folder: Path) -> None:
    settings = LangasyncSettings(
        LANGASYNC_BATCH_POLL_INTERVAL=POLL_SECONDS, LANGASYNC_BASE_STORAGE_PATH=str(folder / "jobs")
    )
    if phase == "submit":
        await submit(settings, count)
    else:
        await collect(settings, count, folder / "output.jsonl")


if __name__ == "__main__":
    asyncio.run(main(*called()))
