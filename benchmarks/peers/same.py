"""What is the same for all drivers: the requests, what is left where, and how they are called.

Runs in each peer's own environment, so it imports nothing but the standard library.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "gpt-5.4-mini"
ENDPOINT = "/v1/chat/completions"
MAX_TOKENS = 1024
POLL_SECONDS = 0.5


def prompt(number: int) -> str:
    return f"Is this a good review? {number}. " * 12


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt(number)}]


def body(number: int) -> dict[str, Any]:
    return {"model": MODEL, "messages": messages(number), "max_completion_tokens": MAX_TOKENS}


def lines(count: int) -> Iterator[str]:
    """OpenAI's batch input format, for those who take a file of it."""
    for number in range(count):
        line = {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": body(number)}
        yield json.dumps(line) + "\n"


def write_input(folder: Path, count: int) -> Path:
    path = folder / "input.jsonl"
    with path.open("w") as file:
        file.writelines(lines(count))
    return path


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def called() -> tuple[str, int, Path]:
    """`run_<name>.py submit|collect COUNT FOLDER`."""
    phase, count, folder = sys.argv[1:]
    return phase, int(count), Path(folder)
