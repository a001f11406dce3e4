"""The fixtures over the whole stack, and what a test can have the provider do."""

import asyncio
import os
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal

import psycopg
import pytest
from pydantic import BaseModel

from overnight import BatchHandler, BatchStatus, Outcome, Overnight, Settings, Task
from overnight.client import BatchHandle
from overnight.errors import ServerError, StuckBatchError, UsageError
from overnight.simulator import HtmlEffect, Match, ModelRequest, SimulatorConfig, Stages
from overnight.testing import SimulatorControl, cut_off, errored, refused

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
BOTH = pytest.mark.parametrize("provider", sorted(MODELS))


class Sentiment(BaseModel):
    label: Literal["good", "bad"]


class Judge(Task[Sentiment], name="fixtures-judge"):
    review: str

    def prompt(self) -> str:
        return self.review


async def submitted(overnight: Overnight, provider: str, *ids: str, **options: Any) -> BatchHandle:
    """A batch on its way; each custom id is what is asked, too."""
    batch = await overnight.create_batch(provider=provider, model=MODELS[provider], **options)
    await batch.add_all((Judge(review=word) for word in ids), custom_id=lambda task: task.review)
    await batch.submit()
    return batch


@BOTH
async def test_each_entry_is_answered_as_the_test_says(
    overnight: Overnight, overnight_simulator: SimulatorControl, provider: str
) -> None:
    def judge(request: ModelRequest) -> Any:
        return {"label": "bad"} if request.prompt == "asked" else refused()

    overnight_simulator.answer("*", {"label": "good"})
    overnight_simulator.answer("text", "This is no JSON.")
    overnight_simulator.answer("no", refused())
    overnight_simulator.answer("cut", cut_off("{"))
    overnight_simulator.answer("busy", errored("overloaded"))
    overnight_simulator.answer("lost", Outcome.MISSING)
    overnight_simulator.answer("again", judge)
    overnight_simulator.answer("again", Sentiment(label="good"))
    overnight_simulator.answer("asked", {"label": "good"})
    overnight_simulator.answer("asked", judge)
    overnight_simulator.spoil_line("twice", "duplicate")
    ids = ("any", "text", "no", "cut", "busy", "lost", "again", "asked", "twice")

    batch = await submitted(overnight, provider, *ids)
    finished = await batch.wait()

    entries = {entry.custom_id: entry async for entry in batch.entries(Judge)}
    labels = {name: entry.output.label for name, entry in entries.items() if entry.succeeded}
    assert labels == {"any": "good", "again": "good", "asked": "bad", "twice": "good"}
    codes = {name: (entry.outcome, entry.error_code) for name, entry in entries.items() if not entry.succeeded}
    assert codes.pop("busy")[0] is Outcome.ERRORED
    assert codes == {
        "text": (Outcome.INVALID, "invalid_output"),
        "no": (Outcome.INVALID, "refused"),
        "cut": (Outcome.INVALID, "truncated"),
        "lost": (Outcome.MISSING, "no_result_line"),
    }
    assert sum(finished.outcomes.values()) == len(ids)


async def test_what_goes_wrong_on_the_wire_is_lived_through(
    overnight: Overnight, overnight_simulator: SimulatorControl
) -> None:
    overnight_simulator.rate_limit(times=2)
    overnight_simulator.lose_answer("batches.create")
    overnight_simulator.delay(0.05, "files.upload", times=1)
    overnight_simulator.fault(HtmlEffect(), Match(operation="batches.retrieve", times=1))
    overnight_simulator.expire(share=0.5)

    finished = await (await submitted(overnight, "openai", "one", "two")).wait()

    assert finished.status is BatchStatus.EXPIRED
    assert finished.outcomes == {Outcome.SUCCEEDED: 1, Outcome.EXPIRED: 1}
    assert overnight_simulator.calls("batches.create") == 1
    assert [batch.stage for batch in overnight_simulator.batches()] == ["expired"]
    overnight_simulator.reset()
    assert (overnight_simulator.calls(), overnight_simulator.batches()) == (0, [])


class Heard(BatchHandler, name="fixtures-heard"):
    async def on_failure(self) -> None:
        async with self.transaction() as connection:
            assert await connection.exec_driver_sql("select * from prepared") is not None
            raise LookupError(f"heard that {self.batch.failure_reason}")


async def test_a_wait_for_a_handler_that_raises_ends_with_what_it_raised_and_goes_on_when_told_to(
    overnight: Overnight, overnight_simulator: SimulatorControl, overnight_database_url: str
) -> None:
    with psycopg.connect(overnight_database_url) as connection:
        connection.execute("create table prepared (n int)")
    overnight_simulator.fail("bad_input", "the checks failed.")
    batch = await submitted(overnight, "openai", "one", handler=Heard)

    with pytest.raises(StuckBatchError, match=r"(?s)is failed.*LookupError at test_fixtures.*heard that") as caught:
        await batch.wait()
    await batch.skip_handler()
    finished = await batch.wait()

    assert "heard that" not in caught.value.public
    assert finished.failure_code == "bad_input"
    with pytest.raises(UsageError, match="skip_handler comes too late"):
        await batch.skip_handler()


class TestWithAClockOfTheTestsOwn:
    @pytest.fixture
    def overnight_simulator_config(self) -> SimulatorConfig:
        return SimulatorConfig(stages=Stages(validating=100, in_progress=1000, finalizing=100))

    async def test_a_batch_is_over_when_the_test_says_so(
        self, overnight: Overnight, overnight_simulator: SimulatorControl
    ) -> None:
        batches = [await submitted(overnight, provider, "one") for provider in MODELS]
        while len(overnight_simulator.batches()) < 2:
            await asyncio.sleep(0.02)

        overnight_simulator.advance(150)
        assert {batch.stage for batch in overnight_simulator.batches()} == {"in_progress"}
        overnight_simulator.finish()

        assert {(await batch.wait()).status for batch in batches} == {BatchStatus.ENDED}


async def test_code_under_test_finds_the_tests_stack_in_its_environment(
    overnight_environment: Mapping[str, str], overnight_worker: Any, overnight_simulator: SimulatorControl
) -> None:
    assert Settings.from_environment().openai_base_url == overnight_simulator.openai_base_url

    async with Overnight.connect() as client:
        finished = await (await submitted(client, "anthropic", "one")).wait()

    assert finished.outcomes == {Outcome.SUCCEEDED: 1}


class TestInTheEnvironmentOfSomebodyWithKeys:
    @pytest.fixture(autouse=True)
    def _with_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
        monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
        monkeypatch.setenv("OVERNIGHT_WEBHOOK_URL", "https://example.com")
        monkeypatch.setenv("TEMPORAL_API_KEY", "real")

    def test_neither_keys_nor_addresses_of_theirs_are_seen(self, overnight_settings: Settings) -> None:
        assert overnight_settings.openai_api_key is not None
        assert overnight_settings.openai_api_key.get_secret_value() == "simulated"
        assert overnight_settings.openai_base_url.startswith("http://127.0.0.1:")
        assert overnight_settings.webhook_url is None
        assert "TEMPORAL_API_KEY" not in os.environ


def test_a_simulator_elsewhere_takes_no_callables(overnight_simulator: SimulatorControl) -> None:
    elsewhere = SimulatorControl(overnight_simulator.url)
    elsewhere.answer("r-1", "Hello.")

    with pytest.raises(UsageError, match="not in this process"):
        elsewhere.answer("r-1", lambda _: "Hello.")
    with pytest.raises(UsageError, match="No model answers 'expired'"):
        elsewhere.answer("r-1", Outcome.EXPIRED)
    with pytest.raises(UsageError, match="refuses POST advance"):
        elsewhere.advance(-1)
    with urllib.request.urlopen(f"{elsewhere.url}/_simulator/answers") as answers:
        assert b'"Hello."' in answers.read()


def test_a_simulator_that_is_not_there_is_told() -> None:
    with pytest.raises(ServerError, match=r"No simulator answers at http://127\.0\.0\.1:9"):
        SimulatorControl("http://127.0.0.1:9").reset()
