"""What a worker logs of one batch, from its beginning to its end."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from overnight import BatchHandler, Overnight, Task
from overnight.contracts import WORKFLOW, BatchStart
from overnight.log_events import LogEvent
from overnight.logs import JsonFormatter

pytestmark = pytest.mark.usefixtures("worker")


class Note(Task[str], name="logging-note"):
    text: str

    def prompt(self) -> str:
        return self.text


class Forgetful(BatchHandler, name="logging-forgetful"):
    runs = 0

    async def on_success(self) -> None:
        Forgetful.runs += 1
        if Forgetful.runs == 1:
            raise LookupError("a secret of the handler")


class Lines(logging.Handler):
    """What a worker with OVERNIGHT_LOG_FORMAT=json writes: whose a line is, is known where it is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonFormatter())
        self.all: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(json.loads(self.format(record)))

    def of_ours(self) -> list[dict[str, Any]]:
        return [
            line for line in self.all if line["logger"].partition(".")[0] in ("overnight", "activities", "workflows")
        ]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root, handler = logging.getLogger(), Lines()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


async def test_every_line_of_a_batchs_life_has_a_name_and_the_batchs_id(overnight: Overnight, lines: Lines) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Forgetful)
    await batch.add(Note(text="a secret prompt"))
    # Started by another client under a name of its own, which does not say which batch it is.
    name, start = f"logging-{batch.id.hex}", BatchStart(batch_id=batch.id)
    life = await overnight.temporal.start_workflow(WORKFLOW, start, id=name, task_queue=overnight.settings.task_queue)
    while not Forgetful.runs:
        await asyncio.sleep(0.02)
    await batch.retry_handler()
    await life.result()

    found = lines.of_ours()
    events = [line["event"] for line in found]
    assert {line.get("batch_id") for line in found} == {str(batch.id)}
    assert set(events) <= set(LogEvent)
    assert [event for event in dict.fromkeys(events) if not event.startswith("notice.")] == [
        *("batch.submitted", "batch.polled", "batch.ingested", "batch.hydrated"),
        *("step.error_kept", "step.failed", "handler.ran"),
    ]
    assert {"notice.attention", "notice.recovered"} <= set(events)
    assert "secret" not in json.dumps(lines.all)
