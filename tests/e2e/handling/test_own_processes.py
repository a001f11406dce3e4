"""Handlers that are not in the worker that runs the batch: an activity of the user's own, and the next batch."""

import asyncio
import json
import secrets
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from overnight import BatchFilter, BatchHandler, Outcome, Overnight, Task
from overnight.client import BatchHandle
from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program
from overnight.errors import UsageError
from overnight.simulator.serve import Running

pytestmark = pytest.mark.usefixtures("worker")

OPENAI = {"provider": "openai", "model": "gpt-5.4-mini"}
MAILER = Path(__file__).with_name("mailer.py")


class Summarize(Task[str], name="e2e-summarize"):
    text: str

    def prompt(self) -> str:
        return f"Summarize: {self.text}"


class Translate(Task[str], name="e2e-translate"):
    text: str

    def prompt(self) -> str:
        return f"Translate into Welsh: {self.text}"


async def submitted(overnight: Overnight, count: int = 3, **options: Any) -> BatchHandle:
    batch = await overnight.create_batch(**OPENAI, **options)
    await batch.add_all(Summarize(text=f"text {number}") for number in range(count))
    await batch.submit()
    return batch


async def test_an_activity_of_a_worker_that_knows_nothing_of_us_is_a_handler(
    overnight: Overnight, temporal_server: EmbeddedTemporal, tmp_path: Path
) -> None:
    queue, sent = f"mailer-{secrets.token_hex(4)}", tmp_path / "sent"
    argv = [sys.executable, str(MAILER), temporal_server.address, queue, str(sent)]
    program = Program(name="mailer", argv=argv, log_file=tmp_path / "mailer.log", cwd=tmp_path, env={})
    async with await ManagedProcess.start(program):
        batch = await submitted(overnight, handler_activity="send_report", handler_task_queue=queue)
        finished = await batch.wait()

    (summary,) = map(json.loads, sent.read_text().splitlines())
    assert summary["batch_id"] == str(batch.id)
    assert (summary["status"], summary["outcomes"]) == ("ended", {"succeeded": 3})
    assert summary["cost"] == str(finished.cost.billed)
    assert finished.handler_dispatched_at is not None
    assert all([entry.output async for entry in batch.entries(Summarize)])


@pytest.mark.parametrize(
    "options",
    [
        {"handler_activity": "send_report"},
        {"handler_activity": "send_report", "handler_task_queue": "mailer", "handler": "e2e-follows"},
    ],
)
async def test_an_activity_without_a_task_queue_or_beside_a_handler_is_refused(
    overnight: Overnight, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match="handler_activity"):
        await overnight.create_batch(**OPENAI, **options)
    assert await overnight.batches() == []


runs: list[str] = []


class Publish(BatchHandler, name="e2e-publish"):
    async def on_success(self) -> None:
        runs.append("publish")


class Follows(BatchHandler, name="e2e-follows"):
    """Sends what came out to be translated, and fails after that as often as it is told to."""

    async def on_success(self) -> None:
        runs.append("follow")
        following = await self.overnight.create_batch(**OPENAI, handler=Publish, key="translations")
        added = await following.add_all(
            Translate(text=entry.output) async for entry in self.entries(Summarize, outcomes=[Outcome.SUCCEEDED])
        )
        assert added == self.batch.entry_count
        await following.submit()
        if runs.count("follow") <= self.batch.metadata["failures"]:
            raise RuntimeError("after everything was done")


async def test_a_handler_starts_the_next_batch_and_a_second_run_of_it_starts_no_other(
    overnight: Overnight, simulator: Running
) -> None:
    runs.clear()
    batch = await submitted(overnight, handler=Follows, metadata={"failures": 1})
    while "follow" not in runs or (await batch.get()).trouble_code is None:
        await asyncio.sleep(0.02)
    await batch.retry_handler()
    await batch.wait()

    (following,) = await overnight.batches(BatchFilter(parent=batch.id))
    finished = await overnight.batch(following.id).wait()
    assert runs.count("follow") == 2
    assert runs.count("publish") == 1
    assert finished.parent_batch_id == batch.id
    assert finished.outcomes == {Outcome.SUCCEEDED: 3}
    assert await overnight.batches(BatchFilter(parent=following.id)) == []
    with urllib.request.urlopen(f"{simulator.url}/_simulator/state") as state:  # noqa: ASYNC210 - a local answer
        assert json.load(state)["batch_counts"]["openai"] == 2


async def test_a_script_that_is_run_again_finds_the_batch_of_its_key(overnight: Overnight) -> None:
    async def script() -> BatchHandle:
        batch = await overnight.create_batch(**OPENAI, key="reviews of November")
        assert await batch.add_all(Summarize(text=f"text {number}") for number in range(3)) == 3
        await batch.add(Summarize(text="one more"))
        await batch.submit()
        return batch

    first, second = await script(), await script()

    assert first.id == second.id
    assert (await second.wait()).outcomes == {Outcome.SUCCEEDED: 4}
    assert (await script()).id == first.id
    assert len(await overnight.batches()) == 1
