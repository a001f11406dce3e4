"""steadybatch, driven through its public names: `run_steadybatch.py submit|collect COUNT FOLDER`."""

import sys
from pathlib import Path

from openai import OpenAI
from steadybatch import Request, Runner
from steadybatch.providers.openai_batch import OpenAIBatch

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}


class Submitted(Exception):  # noqa: N818 - no error: it ends the first half
    pass


def stop(_seconds: float) -> None:
    raise Submitted


def main(phase: str, count: int, folder: Path) -> None:
    requests = [
        Request(key=str(number), messages=[{"role": "user", "content": f"Is this a good review? {number}. " * 12}])
        for number in range(count)
    ]
    options = {"sleep": stop} if phase == "submit" else {"poll_every": 0.5}
    runner = Runner(
        OpenAIBatch(OpenAI()), "gpt-5.4-mini", response_schema=SCHEMA, checkpoint=folder / "checkpoint.db", **options
    )
    try:
        report = runner.run(requests)
    except Submitted:
        return
    assert report.ok == count, report.failed


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
