"""The whole system: one test per promise of the README."""

import asyncio
import base64
import json
import re
import urllib.request
from typing import Literal

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from temporalio.client import Client, WorkflowHistory

from overnight import BatchHandler, BatchStatus, Image, Outcome, Overnight, Settings, Task
from overnight.errors import BatchClosedError, CancelRefusedError
from overnight.simulator.faults import BatchEffect, Match
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from overnight.testing import SimulatorControl


class Mood(BaseModel):
    label: Literal["positive", "neutral", "negative"]
    confidence: float


class JudgeMood(Task[Mood]):
    review: str
    system = "You judge product reviews."
    max_tokens = 300

    def prompt(self) -> str:
        return f"How does this reviewer feel?\n\n{self.review}"


class KeepMoods(BatchHandler):
    async def on_completion(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(text("create table moods (custom_id text primary key, label text)"))

    async def on_success(self) -> None:
        async with self.transaction() as connection:
            async for entry in self.entries(JudgeMood, outcomes=[Outcome.SUCCEEDED]):
                row = {"custom_id": entry.custom_id, "label": entry.output.label}
                await connection.execute(text("insert into moods values (:custom_id, :label)"), row)


def readable(history: WorkflowHistory) -> str:
    """A history's JSON with its payloads decoded, so that it can be searched."""
    text = history.to_json()
    return text + "".join(base64.b64decode(data).decode() for data in re.findall(r'"data": "([^"]+)"', text))


async def moods(overnight: Overnight) -> int:
    async with overnight.store._engine.connect() as connection:
        return (await connection.execute(text("select count(*) from moods"))).scalar_one()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("provider", "model", "endpoint"),
    [
        ("openai", "gpt-5.4-mini", "/v1/responses"),
        ("openai", "gpt-5.4-mini", "/v1/chat/completions"),
        ("anthropic", "claude-haiku-4-5", "/v1/messages"),
    ],
)
async def test_a_batch_goes_from_tasks_to_typed_results_and_its_handler_runs_once(
    overnight: Overnight, provider: str, model: str, endpoint: str
) -> None:
    batch = await overnight.create_batch(provider=provider, model=model, endpoint=endpoint, handler=KeepMoods)
    await batch.add_all(JudgeMood(review=f"review number {n}") for n in range(30))
    await batch.submit()

    finished = await batch.wait()

    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 30}
    assert finished.handler_dispatched_at is not None
    assert await moods(overnight) == 30
    found = [entry async for entry in batch.entries(JudgeMood)]
    assert [entry.task.review for entry in found] == [f"review number {n}" for n in range(30)]
    assert all(isinstance(entry.output, Mood) for entry in found)
    assert finished.usage.input_tokens == sum(entry.usage.input_tokens for entry in found) > 0
    assert finished.cost.billed == sum(entry.cost.billed or 0 for entry in found)
    assert finished.cost.billed is not None
    assert finished.cost.list_price == finished.cost.billed * 2


@pytest.mark.usefixtures("worker")
async def test_embeddings_come_back_as_vectors(overnight: Overnight, simulator: Running) -> None:
    class Embed(Task[list[float]], name="e2e-embed"):
        words: str

        def prompt(self) -> str:
            return self.words

    batch = await overnight.create_batch(provider="openai", model="text-embedding-3-small", endpoint="/v1/embeddings")
    await batch.add_all([Embed(words="one"), Embed(words="two")])
    await batch.submit()
    await batch.wait()

    vectors = [entry.output async for entry in batch.entries(Embed)]
    assert len(vectors) == 2
    assert all(vector is not None and len(vector) == 1536 for vector in vectors)


PNG = b"\x89PNG\r\n\x1a\n rest"


def spell(word: str) -> str:
    """Spell a word."""
    return " ".join(word)


class Caption(Task[str], name="e2e-caption"):
    photo: Image
    tools = (spell,)
    tool_choice = "spell"

    def prompt(self) -> list[Image | str]:
        return [self.photo, "What is this?"]


class KeepCaptions(BatchHandler, name="e2e-keep-captions"):
    async def on_success(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(text("create table captions (tokens int, given text, result text)"))
            async for entry in self.entries(Caption, outcomes=[Outcome.SUCCEEDED]):
                (call,) = entry.tool_calls
                row = {"given": call.arguments["word"], "result": call.result, "tokens": entry.usage.output_tokens}
                await connection.execute(text("insert into captions values (:tokens, :given, :result)"), row)


@pytest.mark.usefixtures("worker")
async def test_images_are_asked_about_and_tools_have_run_before_the_handler(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5", handler=KeepCaptions)
    await batch.add_all(Caption(photo=Image(data=PNG)).with_settings(max_tokens=100 + n) for n in range(5))
    await batch.submit()
    assert (await batch.wait()).outcomes == {Outcome.SUCCEEDED: 5}

    async with overnight.store._engine.connect() as connection:
        rows = (await connection.execute(text("select given, result from captions"))).all()
    assert [result for _, result in rows] == [" ".join(given) for given, _ in rows]
    assert len(rows) == 5
    tasks = [entry.task async for entry in batch.entries(Caption)]
    assert tasks == [Caption(photo=Image(data=PNG)).with_settings(max_tokens=100 + n) for n in range(5)]

    now = await overnight.run(tasks[0], provider="anthropic", model="claude-haiku-4-5")
    assert now.tool_calls[0].result == " ".join(now.tool_calls[0].arguments["word"])
    assert now.cost.billed == now.cost.list_price


@pytest.mark.slow_provider
@pytest.mark.usefixtures("worker")
async def test_a_canceled_batch_keeps_what_was_answered_and_its_handler_hears_of_it(
    overnight: Overnight, simulator: Running
) -> None:
    SimulatorControl(simulator.url).fault(BatchEffect(how="cancel", share=0.5), Match(operation="batches.create"))

    class Told(BatchHandler, name="e2e-told"):
        async def on_failure(self) -> None:
            async with self.transaction() as connection:
                row = {"status": self.batch.status.value}
                await connection.execute(text("create table told as select cast(:status as text) as status"), row)

    batch = await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5", handler=Told)
    await batch.add_all(JudgeMood(review=f"review number {n}") for n in range(40))
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:
        await asyncio.sleep(0.02)

    await batch.cancel()
    finished = await batch.wait()

    assert finished.status is BatchStatus.CANCELED
    assert finished.outcomes == {Outcome.SUCCEEDED: 20, Outcome.CANCELED: 20}
    async with overnight.store._engine.connect() as connection:
        assert (await connection.execute(text("select status from told"))).scalar_one() == "canceled"
    with pytest.raises(CancelRefusedError, match="it is over"):
        await batch.cancel()


@pytest.mark.usefixtures("worker")
async def test_a_handler_that_raises_is_run_again_and_leaves_no_effects_of_its_failed_runs(
    overnight: Overnight,
) -> None:
    runs: list[int] = []

    class Stumbles(BatchHandler, name="e2e-stumbles"):
        async def on_success(self) -> None:
            runs.append(len(runs))
            async with self.transaction() as connection:
                await connection.execute(text("create table effects as select 1 as effect"))
                if len(runs) < 2:
                    raise RuntimeError("a secret of the handler")

    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Stumbles)
    await batch.add(JudgeMood(review="fine"))
    await batch.submit()
    finished = await batch.wait()

    assert len(runs) == 2
    assert finished.last_error == "RuntimeError: a secret of the handler"
    async with overnight.store._engine.connect() as connection:
        assert (await connection.execute(text("select count(*) from effects"))).scalar_one() == 1
    history = readable(await (await batch._workflow()).fetch_history())
    assert str(batch.id) in history
    assert "a secret of the handler" not in history
    assert "How does this reviewer feel" not in history


@pytest.mark.usefixtures("worker")
async def test_two_clients_that_submit_at_once_pay_for_one_batch(
    overnight: Overnight, settings: Settings, temporal: Client, simulator: Running
) -> None:
    other = Overnight(settings=settings, store=Store.from_settings(settings), temporal=temporal)
    batch = await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5")
    await batch.add_all(JudgeMood(review=f"review number {n}") for n in range(5))

    submits = [handle.submit() for handle in (batch, other.batch(batch.id), batch, other.batch(batch.id))]
    answers = await asyncio.gather(*submits, return_exceptions=True)
    finished = await batch.wait()
    await other.store.aclose()

    assert answers.count(None) >= 1
    assert all(isinstance(answer, BatchClosedError) for answer in answers if answer is not None)
    assert finished.outcomes == {Outcome.SUCCEEDED: 5}
    with urllib.request.urlopen(f"{simulator.url}/_simulator/state") as state:  # noqa: ASYNC210 - a local answer
        assert json.load(state)["batch_counts"]["anthropic"] == 1


@pytest.mark.usefixtures("worker")
async def test_a_cancel_between_seal_and_start_is_not_forgotten(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5")
    await batch.add(JudgeMood(review="fine"))
    await overnight.store.batches.seal(batch.id)
    await overnight.store.batches.request_cancel(batch.id)  # and then the process died, before the signal

    await batch.submit()
    finished = await batch.wait()

    assert finished.status is BatchStatus.CANCELED
    assert finished.provider_batch_id is None
    assert finished.outcomes == {Outcome.CANCELED: 1}
