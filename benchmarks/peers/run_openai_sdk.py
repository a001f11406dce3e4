"""No peer but the floor: the vendor's own SDK, a file up and a file down, with an id in between."""

import time
from pathlib import Path

from openai import OpenAI
from same import ENDPOINT, POLL_SECONDS, called, count_lines, write_input


def submit(client: OpenAI, count: int, folder: Path) -> None:
    with write_input(folder, count).open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint=ENDPOINT, completion_window="24h")
    (folder / "batch").write_text(batch.id)


def collect(client: OpenAI, count: int, folder: Path) -> None:
    batch_id = (folder / "batch").read_text()
    while (batch := client.batches.retrieve(batch_id)).status != "completed":
        time.sleep(POLL_SECONDS)
    assert batch.output_file_id
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        response.stream_to_file(folder / "output.jsonl")
    assert count_lines(folder / "output.jsonl") == count


if __name__ == "__main__":
    phase, count, folder = called()
    (submit if phase == "submit" else collect)(OpenAI(), count, folder)
