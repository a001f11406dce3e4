"""steadybatch, driven through its public names. It takes answers in JSON only, and needs no schema for them."""

from pathlib import Path

from openai import OpenAI
from same import MODEL, POLL_SECONDS, called, messages
from steadybatch import Request, Runner
from steadybatch.providers.openai_batch import OpenAIBatch


class Submitted(Exception):  # noqa: N818 - no error: it ends the first half
    pass


def stop(_seconds: float) -> None:
    raise Submitted


def main(phase: str, count: int, folder: Path) -> None:
    requests = [Request(key=str(number), messages=messages(number)) for number in range(count)]
    options = {"sleep": stop} if phase == "submit" else {"poll_every": POLL_SECONDS}
    runner = Runner(OpenAIBatch(OpenAI()), MODEL, checkpoint=folder / "checkpoint.db", **options)
    try:
        report = runner.run(requests)
    except Submitted:
        return
    assert report.ok == count, report.failed


if __name__ == "__main__":
    main(*called())
