"""Batches that lost their workflow are found, and finish after all."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from overnight import BatchStatus, Outcome, Overnight, Settings, Task
from overnight.client import BatchHandle
from overnight.doctor import Problem, examine, reattach
from overnight.embedded import EmbeddedTemporal

ROOT = Path(__file__).parents[2]


class Say(Task[str], name="doctor-say"):
    word: str

    def prompt(self) -> str:
        return self.word


async def accepted(overnight: Overnight) -> BatchHandle:
    """A batch that the provider has."""
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add_all(Say(word=f"word {n}") for n in range(10))
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:
        await asyncio.sleep(0.02)
    return batch


@pytest.mark.usefixtures("worker")
async def test_a_batch_in_good_hands_needs_no_doctor(overnight: Overnight) -> None:
    batch = await accepted(overnight)

    assert await examine(overnight) == []
    await batch.wait()
    assert await examine(overnight) == []


@pytest.mark.usefixtures("worker")
async def test_a_terminated_batch_is_found_and_finishes_at_the_provider_batch_it_had(overnight: Overnight) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    [finding] = await examine(overnight)
    assert (finding.batch.id, finding.problem) == (batch.id, Problem.WORKFLOW_CLOSED)
    await reattach(overnight, finding)
    finished = await batch.wait()

    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 10}
    assert finished.provider_batch_id == finding.batch.provider_batch_id
    assert await examine(overnight) == []


@pytest.mark.usefixtures("worker")
async def test_a_terminated_batch_can_be_canceled_instead(overnight: Overnight) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    [finding] = await examine(overnight)
    await reattach(overnight, finding, cancel=True)
    finished = await batch.wait()

    assert finished.status is BatchStatus.CANCELED
    assert sum(finished.outcomes.values()) == 10


async def test_a_batch_whose_workflow_temporal_never_heard_of_is_found(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add(Say(word="hello"))
    await overnight.store.batches.seal(batch.id)

    [finding] = await examine(overnight)

    assert finding.problem is Problem.NO_WORKFLOW


async def overnight_command(settings: Settings, server: EmbeddedTemporal, *arguments: str) -> tuple[int | None, str]:
    assert settings.database_url is not None
    environment = {
        "PATH": os.environ["PATH"],
        "OVERNIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "TEMPORAL_ADDRESS": server.address,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "overnight.cli", *arguments, env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.usefixtures("worker")
async def test_the_command_finds_it_and_puts_it_right(
    overnight: Overnight, settings: Settings, temporal_server: EmbeddedTemporal
) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    code, text = await overnight_command(settings, temporal_server, "doctor")
    assert code == 3
    assert str(batch.id) in text
    assert "--fix" in text

    code, text = await overnight_command(settings, temporal_server, "doctor", "--fix", "--json")
    assert (code, json.loads(text)["helped"]) == (0, True)
    assert (await batch.wait()).status is BatchStatus.ENDED

    code, text = await overnight_command(settings, temporal_server, "doctor")
    assert code == 0
    assert "Every batch" in text
