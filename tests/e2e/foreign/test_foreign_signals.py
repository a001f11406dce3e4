"""Any Temporal client steers a running batch: the signals `cancel` and `poll_now`, the query `progress`."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from tests.e2e.foreign.clients import ForeignClient
from tests.e2e.foreign.test_foreign_start import RAW

pytestmark = pytest.mark.usefixtures("worker")

HOUR = 3600.0


@pytest.fixture
def stages() -> Stages:
    return Stages(validating=0, in_progress=HOUR, finalizing=0, canceling=0)


@pytest.fixture
def simulator_config(stages: Stages) -> SimulatorConfig:
    return SimulatorConfig(stages=stages)


async def progress_when(foreign: ForeignClient, name: str, **wanted: Any) -> Any:
    """The first answer to the query that says what is wanted."""
    async with asyncio.timeout(120):
        while True:
            progress = await foreign.progress(name)
            if all(progress[field] == value for field, value in wanted.items()):
                return progress
            await asyncio.sleep(0.05)


async def test_cancel_ends_a_batch_that_would_take_an_hour(foreign: ForeignClient, name: str) -> None:
    await foreign.start(name, {"spec": RAW})
    before = await progress_when(foreign, name, status="in_progress")
    await foreign.signal(name, "cancel")
    summary = await foreign.result(name)

    assert (before["total"], before["cancel_requested"]) == (3, False)
    assert (summary["status"], summary["outcomes"]) == ("canceled", {"canceled": 3})
    after = await foreign.progress(name)
    assert (after["step"], after["status"], after["cancel_requested"]) == ("done", "canceled", True)


class TestWithAnHourBetweenPolls:
    @pytest.fixture
    def stages(self) -> Stages:
        return Stages(validating=0, in_progress=0, finalizing=0, canceling=0)

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"poll_waits": (timedelta(hours=1),)})

    async def test_poll_now_ends_the_wait(self, foreign: ForeignClient, name: str) -> None:
        await foreign.start(name, {"spec": RAW})
        waiting = await progress_when(foreign, name, step="poll")
        await foreign.signal(name, "poll_now")
        summary = await foreign.result(name)

        assert waiting["polls"] == 0
        assert waiting["next_poll_at"] is not None
        assert (summary["status"], summary["outcomes"]) == ("ended", {"succeeded": 3})
        assert (await foreign.progress(name))["polls"] == 1
