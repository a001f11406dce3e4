"""bespokelabs-curator, driven through its public names. It submits and waits in one call: the first half ends with its
process, as soon as its own record says that the batch is submitted, and the second half calls it again.
"""

import json
import os
import threading
import time
from pathlib import Path

os.environ["TELEMETRY_ENABLED"] = "false"
os.environ["CURATOR_DISABLE_RICH_DISPLAY"] = "1"

from bespokelabs import curator
from openai.resources.files import AsyncFiles
from same import MODEL, called, prompt

send = AsyncFiles.create


async def send_named(files: AsyncFiles, *, file: bytes, **options: object) -> object:
    """It gives its upload no name, and the simulator takes no batch file that is not called `.jsonl`."""
    return await send(files, file=("input.jsonl", file), **options)


AsyncFiles.create = send_named


def end_when_submitted(folder: Path) -> None:
    while not any(_submitted(record) for record in folder.glob("*/batch_objects.jsonl")):
        time.sleep(0.05)
    os._exit(0)


def _submitted(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text())["submitted_batches"])
    except ValueError:  # it is being written
        return False


def main(phase: str, count: int, folder: Path) -> None:
    if phase == "submit":
        threading.Thread(target=end_when_submitted, args=[folder / "curator"], daemon=True).start()
    asked = curator.LLM(
        model_name=MODEL,
        batch=True,
        backend="openai",
        backend_params={
            "base_url": os.environ["OPENAI_BASE_URL"],
            "batch_check_interval": 1,
            "batch_size": 50_000,
            "max_retries": 3,
        },
    )
    done = asked([prompt(number) for number in range(count)], working_dir=str(folder / "curator"))
    assert sum(bool(text) for text in done.dataset["response"]) == count


if __name__ == "__main__":
    main(*called())
