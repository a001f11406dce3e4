"""batchlane, driven through its public names. It has no option for the base URL, so its table of providers is told."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or importing litellm asks the network for prices

import batchlane
from batchlane.adapters.openai_shaped import ROWS
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, messages


def collect(lines: Sequence[batchlane.BatchLine], folder: Path) -> None:
    answered = 0
    with (folder / "output.jsonl").open("w") as file:
        for line, result in batchlane.run(lines, checkpoint=folder / "journal", poll_interval=POLL_SECONDS):
            answered += result.ok
            file.write(json.dumps({"custom_id": line.custom_id, "answer": batchlane.answer_text(result)}) + "\n")
    assert answered == len(lines), answered


def main(phase: str, count: int, folder: Path) -> None:
    ROWS["openai"] = dataclasses.replace(ROWS["openai"], base_url=os.environ["OPENAI_BASE_URL"])
    settings = {"max_completion_tokens": MAX_TOKENS}
    lines = [batchlane.BatchLine(str(number), f"openai/{MODEL}", messages(number), settings) for number in range(count)]
    if phase == "submit":
        assert batchlane.submit_all(lines, checkpoint=folder / "journal")
    else:
        collect(lines, folder)


if __name__ == "__main__":
    main(*called())
