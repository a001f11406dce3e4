"""Whole lives: what happens between submit and handler, and what the handler finds."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from overnight import BatchHandler, BatchStatus, Entry, Outcome, Overnight, RawRequest, Task
from overnight.batches import Usage
from overnight.costs import cost_of
from overnight.providers.base import Response
from tests.acceptance.stage import MODELS, AtTheProvider, Verdict, Weigh

pytestmark = pytest.mark.usefixtures("worker")

heard: defaultdict[UUID, list[Any]] = defaultdict(list)


class Fragile(Task[str], name="acceptance-fragile"):
    def prompt(self) -> str:
        return "Anything."

    def read(self, response: Response) -> str:
        raise LookupError("there is always a bug")


class Listens(BatchHandler, name="acceptance-listens"):
    """Hears the end, finds the entries by a helper of its own, and leaves its last hook early."""

    async def on_completion(self) -> None:
        heard[self.batch.id].append(("completion", await self.outcomes()))

    async def on_success(self) -> None:
        heard[self.batch.id].append("success")
        if not await self.outcomes(Outcome.CANCELED):
            return
        heard[self.batch.id].append("too far")

    async def on_failure(self) -> None:
        heard[self.batch.id].append(("failure", self.batch.failure_reason, await self.outcomes(Outcome.ERRORED)))

    async def outcomes(self, *wanted: Outcome) -> dict[str, Outcome | None]:
        found = self.entries(outcomes=wanted or None)
        return {entry.custom_id: entry.outcome async for entry in found}


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(240):
        while not await true():
            await asyncio.sleep(0.02)


SCRIPT = [
    {"custom_id": "good*", "value": {"label": "good"}},
    {"custom_id": "odd*", "value": {"label": "ugly"}},
    {"custom_id": "busy*", "error": {"kind": "rate_limit", "message": "Slow down."}},
    {"custom_id": "raw*", "text": "Plain."},
]
OUTCOMES = {
    "good": Outcome.SUCCEEDED,
    "odd": Outcome.INVALID,
    "busy": Outcome.ERRORED,
    "fragile": Outcome.INVALID,
    "gone": Outcome.MISSING,
    "raw": Outcome.SUCCEEDED,
    "good-too": Outcome.SUCCEEDED,
}
ENDPOINTS = [("openai", "/v1/responses"), ("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")]


def raw(model: str, endpoint: str) -> RawRequest:
    asked = {"input": "Hi."} if endpoint == "/v1/responses" else {"messages": [{"role": "user", "content": "Hi."}]}
    return RawRequest(body={"model": model, **asked, **({"max_tokens": 9} if endpoint == "/v1/messages" else {})})


async def add_each_kind(batch: Any, model: str, endpoint: str) -> None:
    for name in OUTCOMES:
        kinds = {"raw": raw(model, endpoint), "fragile": Fragile()}
        await batch.add(kinds.get(name, Weigh(text=name)), custom_id=name)


@pytest.mark.parametrize(("provider", "endpoint"), ENDPOINTS)
async def test_nothing_has_an_outcome_while_the_batch_runs_and_everything_has_one_when_the_handler_does(
    overnight: Overnight, account: AtTheProvider, provider: str, endpoint: str
) -> None:
    await account.answer(*SCRIPT)
    missing = {"kind": "lines", "how": "missing", "custom_ids": ["gone*"]}
    await account.fault(provider, "batches.create", missing)
    model = MODELS[provider]
    batch = await overnight.create_batch(provider=provider, model=model, endpoint=endpoint, handler=Listens)
    await add_each_kind(batch, model, endpoint)
    await batch.submit()

    async def is_polled() -> bool:
        return (await account.calls())["batches.retrieve"] > 1

    await until(is_polled)
    running = await batch.get()
    assert running.provider_batch_id is not None
    assert running.submitted_at is not None
    assert not running.status.is_terminal
    assert {entry.outcome async for entry in batch.entries()} == {None}
    assert heard[batch.id] == []

    await account.advance(2000)
    finished = await batch.wait()
    entries = {entry.custom_id: entry async for entry in batch.entries()}

    assert finished.status is BatchStatus.ENDED
    assert finished.ended_at is not None
    assert {name: entry.outcome for name, entry in entries.items()} == OUTCOMES
    assert heard[batch.id] == [("completion", OUTCOMES), "success"]
    assert_kept(entries)
    assert_paid(entries, provider, model)
    assert finished.cost.billed is None  # the provider counts the line that never came, and may bill it
    assert finished.usage == sum((entry.usage for entry in entries.values()), Usage())


def assert_kept(entries: dict[str, Entry[Any]]) -> None:
    """Outputs where there are some, reasons where there are none, and what came in any case."""
    assert entries["good"].output == entries["good-too"].output == Verdict(label="good")
    assert entries["raw"].output_or_none is None
    assert "Plain." in (entries["raw"].response or "")
    assert "ugly" in (entries["odd"].response or "")
    assert entries["odd"].error_code == "invalid_output"
    assert entries["busy"].reason == "Slow down."
    assert entries["fragile"].error_code == "task_failed"
    assert entries["gone"].reason
    assert entries["gone"].response is None


def assert_paid(entries: dict[str, Entry[Any]], provider: str, model: str) -> None:
    """Everything that was answered was paid for, whether it was of any use or not."""
    for name in ("good", "odd", "fragile", "raw"):
        entry = entries[name]
        assert entry.usage.output_tokens > 0
        assert entry.cost == cost_of(entry.usage, provider=provider, model=model)
        assert entry.cost.billed is not None
        assert entry.cost.list_price == entry.cost.billed * 2
    for name in ("busy", "gone"):
        assert not entries[name].cost.billed


@pytest.mark.parametrize("provider", MODELS)
async def test_the_handler_of_a_refused_batch_learns_why_and_finds_its_entries_errored(
    overnight: Overnight, account: AtTheProvider, provider: str
) -> None:
    await account.fault(provider, "batches.create", {"kind": "status", "status": 400})
    batch = await overnight.create_batch(provider=provider, model=MODELS[provider], handler=Listens)
    await batch.add(Weigh(text="one"), custom_id="one")
    await batch.submit()

    finished = await batch.wait()

    errored = {"one": Outcome.ERRORED}
    assert finished.failure_reason
    assert heard[batch.id] == [("completion", errored), ("failure", finished.failure_reason, errored)]


class Broken(BatchHandler, name="acceptance-broken"):
    async def on_completion(self) -> None:
        raise LookupError("this one never works")


async def test_a_handler_that_never_works_holds_up_no_other_batch(
    overnight: Overnight, account: AtTheProvider, caplog: pytest.LogCaptureFixture
) -> None:
    broken = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Broken)
    sound = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Listens)
    for batch in (broken, sound):
        await batch.add(Weigh(text="one"))
        await batch.submit()

    async def both_are_made() -> bool:
        return (await account.calls())["batches.create"] == 2

    async def is_broken() -> bool:
        return (await broken.get()).last_error == "LookupError: this one never works"

    await until(both_are_made)
    await account.advance(2000)
    await until(is_broken)

    assert (await sound.wait()).handler_dispatched_at is not None
    assert (await broken.get()).handler_dispatched_at is None
    assert any(str(broken.id) in record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    await broken.skip_handler()
    assert (await broken.wait()).handler_dispatched_at is not None


async def test_a_batch_without_a_handler_gets_its_outputs_and_is_finished(
    overnight: Overnight, account: AtTheProvider
) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add(Weigh(text="one"))
    await batch.submit()

    async def is_made() -> bool:
        return bool((await account.calls())["batches.create"])

    await until(is_made)
    await account.advance(2000)

    assert (await batch.wait()).handler_dispatched_at is not None
    assert [isinstance(entry.output, Verdict) async for entry in batch.entries(Weigh)] == [True]
