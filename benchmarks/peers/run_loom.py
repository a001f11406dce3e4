"""loom-batch, driven through its public names."""

import json
import time
from pathlib import Path

from loom import Loom
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, prompt


def submit(client: Loom, count: int, folder: Path) -> None:
    asked = [{"id": str(number), "prompt": prompt(number)} for number in range(count)]
    (folder / "input.json").write_text(json.dumps(asked))
    client.submit_file(folder / "input.json", output=folder / "output.json")


def collect(client: Loom, count: int, folder: Path) -> None:
    (job,) = client.jobs()
    while not job.fetch().done:
        time.sleep(POLL_SECONDS)
    answered = json.loads((folder / "output.json").read_text())
    assert sum(bool(row["llm_response"]) for row in answered) == count


if __name__ == "__main__":
    phase, count, folder = called()
    (submit if phase == "submit" else collect)(Loom("openai", MODEL, max_tokens=MAX_TOKENS), count, folder)
