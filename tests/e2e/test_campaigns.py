"""Campaigns, with real servers and a simulated provider: more than a batch, cut, run, asked again, handled once."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from sqlalchemy import text
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from overnight import (
    BatchFilter,
    BatchHandle,
    BatchHandler,
    BatchStatus,
    CampaignHandle,
    CampaignHandler,
    Outcome,
    Overnight,
    Task,
    UsageError,
)
from overnight.campaign_contracts import workflow_id
from overnight.cli import main
from overnight.doctor import lost_campaigns, reattach_campaign
from overnight.errors import (
    CancelRefusedError,
    CostLimitError,
    DuplicateCustomIdError,
    EmptyBatchError,
    OfCampaignError,
    UnknownHandlerError,
)
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from overnight.simulator.models import ModelError, ModelReply, ModelRequest
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from tests.integration.rows import all_rows

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
pytestmark = pytest.mark.usefixtures("worker")


class Mood(BaseModel):
    label: str
    confidence: float


class Weigh(Task[Mood], name="campaign-weigh"):
    review: str
    max_tokens = 100

    def prompt(self) -> str:
        return f"How is this meant? {self.review}"


class KeepCampaign(CampaignHandler, name="campaign-keep"):
    """One row per entry and per hook, and nothing that would hide a second run."""

    async def on_completion(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(text("create table if not exists kept (custom_id text, outcome text)"))
            await connection.execute(text("create table if not exists hooks (hook text)"))

    async def on_success(self) -> None:
        await self._keep("success")

    async def on_failure(self) -> None:
        await self._keep("failure")

    async def _keep(self, hook: str) -> None:
        async with self.transaction() as connection:
            await connection.execute(text("insert into hooks values (:hook)"), {"hook": hook})
            async for entry in self.entries(Weigh):
                row = {"custom_id": entry.custom_id, "outcome": str(entry.outcome)}
                await connection.execute(text("insert into kept values (:custom_id, :outcome)"), row)


class OfABatch(BatchHandler, name="campaign-of-a-batch"):
    pass


handled: list[str] = []


class AsksOn(BatchHandler, name="campaign-asks-on"):
    """Asks again what got no line, and starts a campaign; then it dies once, when all is handed over."""

    async def on_success(self) -> None:
        if self.batch.parent_batch_id is not None:  # its own retry, which has its handler as well
            return
        handled.append("batch")
        again = await self.overnight.retry(self.batch.id)
        await again.submit()
        campaign = await filled(self.overnight, "openai", 15, handler=Concludes)
        await campaign.submit()
        if handled.count("batch") == 1:
            raise RuntimeError("after everything was done")


class Concludes(CampaignHandler, name="campaign-concludes"):
    async def on_success(self) -> None:
        handled.append("campaign")
        last = await self.overnight.create_batch(provider="openai", model=MODELS["openai"], key="conclusion")
        await last.add_all([Weigh(review="review 1000")])
        await last.submit()
        if handled.count("campaign") == 1:
            raise RuntimeError("after everything was done")


class Moods:
    """Answers by the number of the review: some need to be asked twice, and some cannot be answered."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()

    def __call__(self, request: ModelRequest) -> ModelReply:
        number = int(re.findall(r"review (\d+)", str(request.body))[0])
        self.asked[number] += 1
        match number % 5:
            case 1 if self.asked[number] == 1:
                return ModelReply(error=ModelError(kind="overloaded"))
            case 2 if "cannot be used" not in request.prompt:
                return ModelReply(text='{"label": "good"}')
            case 3:
                return ModelReply(error=ModelError(kind="invalid_request"))
        return ModelReply(value={"label": "good", "confidence": 0.5})


@pytest.fixture
def moods() -> Moods:
    return Moods()


@pytest.fixture
def simulator_config(request: pytest.FixtureRequest) -> SimulatorConfig:
    in_progress = 10_000 if request.node.get_closest_marker("slow_provider") else 0.2
    stages = Stages(validating=0.05, in_progress=in_progress, finalizing=0.05, canceling=0.1)
    asked_for_moods = "moods" in request.fixturenames
    return SimulatorConfig(stages=stages, responder=request.getfixturevalue("moods") if asked_for_moods else None)


slow_provider = pytest.mark.slow_provider
"""Batches end when they are canceled, or when the simulator's clock is moved."""


@pytest.fixture
async def account(simulator: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{simulator.url}/_simulator", timeout=30) as http:
        yield http


async def filled(overnight: Overnight, provider: str, count: int, **options: Any) -> CampaignHandle:
    wanted = {"provider": provider, "model": MODELS[provider], "handler": KeepCampaign, "max_batch_entries": 10}
    campaign = await overnight.create_campaign(**(wanted | options))
    await campaign.add_all(Weigh(review=f"review {number}") for number in range(count))
    return campaign


async def at_the_provider(account: httpx.AsyncClient) -> int:
    return len((await account.get("/state")).json()["batches"])


async def described(overnight: Overnight, name: str) -> WorkflowExecutionStatus | None:
    return (await overnight.temporal.get_workflow_handle(name).describe()).status


async def test_sixty_entries_make_six_batches_and_one_run_of_the_handler(
    overnight: Overnight, store: Store, account: httpx.AsyncClient
) -> None:
    campaign = await filled(overnight, "openai", 60, max_concurrent_batches=3)
    await campaign.submit()
    finished = await campaign.wait()

    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 60}
    assert finished.batches == {BatchStatus.ENDED: 6}
    assert await at_the_provider(account) == 6
    assert finished.cost.billed == sum(batch.cost.billed or 0 for batch in await campaign.batches()) > 0
    kept = await all_rows(store._engine, "select custom_id, outcome from kept")
    assert sorted(kept) == sorted((f"campaign-weigh-{number}", "succeeded") for number in range(1, 61))
    assert await all_rows(store._engine, "select hook from hooks") == [("success",)]


async def test_what_failed_for_no_fault_of_its_own_is_asked_again_and_nothing_else(
    overnight: Overnight, store: Store, moods: Moods
) -> None:
    campaign = await filled(overnight, "anthropic", 25, rounds=3, retry_invalid=True)
    await campaign.submit()
    finished = await campaign.wait()

    # By the last digit: 1 and 6 are told of a server's error at first, 2 and 7 answer nonsense until it is held against
    # them, 3 and 8 are refused. Only those of the first four are asked twice.
    refused = sum(number % 5 == 3 for number in range(25))
    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 25 - refused, Outcome.ERRORED: refused}
    assert finished.round == 2
    assert moods.asked == Counter({number: 2 if number % 5 in {1, 2} else 1 for number in range(25)})
    entries = {entry.task.review: entry async for entry in campaign.entries(Weigh)}
    assert len(entries) == 25
    assert [attempt.outcome for attempt in entries["review 1"].attempts] == [Outcome.ERRORED, Outcome.SUCCEEDED]
    assert [attempt.outcome for attempt in entries["review 2"].attempts] == [Outcome.INVALID, Outcome.SUCCEEDED]
    assert [attempt.outcome for attempt in entries["review 3"].attempts] == [Outcome.ERRORED]
    paid = sum(attempt.cost.billed or 0 for entry in entries.values() for attempt in entry.attempts)
    assert finished.cost.billed == paid
    assert sorted(await all_rows(store._engine, "select outcome, count(*) from kept group by 1")) == [
        ("errored", refused),
        ("succeeded", 25 - refused),
    ]


async def test_what_expired_and_what_got_no_line_is_made_up_for_by_a_further_round(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    create = {"operation": "batches.create", "times": 1}
    await account.post("/faults", json={"match": create, "effect": {"kind": "batch", "how": "expire"}})
    missing = {"kind": "lines", "how": "missing", "count": 2}
    await account.post("/faults", json={"match": {**create, "skip": 1}, "effect": missing})
    campaign = await filled(overnight, "openai", 20, rounds=2, max_concurrent_batches=1)
    await campaign.submit()
    finished = await campaign.wait()

    assert finished.batches == {BatchStatus.ENDED: 2, BatchStatus.EXPIRED: 1}
    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 20}
    assert finished.asked_again == 7


async def test_a_batch_that_fails_is_counted_and_told_as_the_campaigns_failure(
    overnight: Overnight, store: Store, account: httpx.AsyncClient
) -> None:
    create = {"operation": "batches.create", "times": 1}
    broken = {"kind": "batch", "how": "fail", "code": "billing_hard_limit_reached"}
    await account.post("/faults", json={"match": create, "effect": broken})
    campaign = await filled(overnight, "openai", 20, rounds=2)
    await campaign.submit()
    finished = await campaign.wait()

    assert finished.status is BatchStatus.FAILED
    assert finished.failure_code == "billing_hard_limit_reached"
    assert finished.outcomes == {Outcome.SUCCEEDED: 10, Outcome.ERRORED: 10}
    assert await all_rows(store._engine, "select hook from hooks") == [("failure",)]


async def test_a_full_queue_at_the_provider_slows_a_campaign_down_and_fails_nothing(
    overnight: Overnight, store: Store, account: httpx.AsyncClient
) -> None:
    create = {"operation": "batches.create", "times": 2}
    await account.post("/faults", json={"match": create, "effect": {"kind": "batch", "how": "fail"}})
    campaign = await filled(overnight, "openai", 30, max_concurrent_batches=2)
    await campaign.submit()
    finished = await campaign.wait()

    assert finished.batches == {BatchStatus.ENDED: 3}
    assert finished.outcomes == {Outcome.SUCCEEDED: 30}
    sent_back = "select count(*) from overnight.submissions where accepted_at is not null and abandoned_at is not null"
    assert await all_rows(store._engine, sent_back) == [(2,)]


async def test_a_handler_retries_and_starts_a_campaign_and_a_second_run_of_it_pays_for_neither_again(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    handled.clear()
    missing = {"kind": "lines", "how": "missing", "count": 2}
    await account.post("/faults", json={"match": {"operation": "batches.create", "times": 1}, "effect": missing})
    batch = await overnight.create_batch(provider="openai", model=MODELS["openai"], handler=AsksOn)
    await batch.add_all(Weigh(review=f"review {number}") for number in range(5))
    await batch.submit()
    await again_when_it_failed(batch, "batch")
    await batch.wait()
    (found,) = await overnight.campaigns()
    campaign = overnight.campaign(found.id)
    await again_when_it_failed(campaign, "campaign")
    finished = await campaign.wait()

    (retried,) = await overnight.batches(BatchFilter(parent=batch.id))
    assert (await overnight.batch(retried.id).wait()).outcomes == {Outcome.SUCCEEDED: 2}
    assert (finished.parent_batch_id, finished.outcomes) == (batch.id, {Outcome.SUCCEEDED: 15})
    assert handled == ["batch", "batch", "campaign", "campaign"]
    (last,) = [one for one in await overnight.batches() if one.entry_count == 1]
    assert (await overnight.batch(last.id).wait()).outcomes == {Outcome.SUCCEEDED: 1}
    # The batch, its retry, two of the campaign, and what that one's handler started.
    assert await at_the_provider(account) == 5


async def again_when_it_failed(subject: BatchHandle | CampaignHandle, what: str) -> None:
    while what not in handled or (await subject.get()).trouble_code is None:
        await asyncio.sleep(0.02)
    await subject.retry_handler()


async def test_a_campaign_that_could_cost_more_than_it_may_is_not_sent_whoever_starts_it(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    at_most = (await (await filled(overnight, "openai", 25)).estimate()).cost_at_most.billed
    assert at_most is not None
    campaign = await filled(overnight, "openai", 25, max_cost=at_most)
    await campaign.add(Weigh(review="one too many"))

    with pytest.raises(CostLimitError, match=rf"Campaign .* max_cost of \${at_most.normalize():f}\. It could cost up"):
        await campaign.submit()
    found = await campaign.get()
    assert (found.status, found.sealed_at, found.max_cost) == (BatchStatus.PENDING, None, at_most)

    start = {"campaign_id": str(campaign.id)}
    with pytest.raises(WorkflowFailureError) as failed:
        await overnight.temporal.execute_workflow(
            "Campaign", start, id=workflow_id(campaign.id), task_queue=overnight.settings.task_queue
        )
    assert "could cost up to" in str(failed.value.cause.__cause__)
    closed = await campaign.get()
    assert (closed.status, closed.failure_code) == (BatchStatus.FAILED, "max_cost")
    with pytest.raises(UsageError):
        await campaign.submit()
    assert await at_the_provider(account) == 0


async def test_a_round_that_could_exceed_what_is_left_is_skipped_and_told(
    overnight: Overnight, store: Store, moods: Moods
) -> None:
    reviews = [Weigh(review=f"review {5 * number + 2}") for number in range(4)]
    at_most = (await (await filled_with(overnight, reviews)).estimate()).cost_at_most.billed
    assert at_most is not None
    # To hold its answer against the model makes every prompt longer than it was.
    tight, ample = [await filled_with(overnight, reviews, max_cost=at_most * factor) for factor in (1, 10)]
    for campaign in (tight, ample):
        await campaign.submit()
    skipping, asking = await tight.wait(), await ample.wait()

    assert (asking.round, asking.outcomes, asking.skipped_round) == (2, {Outcome.SUCCEEDED: 4}, None)
    assert (skipping.status, skipping.round) == (BatchStatus.ENDED, 1)
    assert skipping.outcomes == {Outcome.INVALID: 4}
    paid, limit = (f"{amount.normalize():f} USD" for amount in (skipping.cost.billed or Decimal(0), at_most))
    told = f"{paid} of the max_cost of {limit} are paid, and to ask 4 entries again could cost up to"
    assert skipping.skipped_round is not None
    assert told in skipping.skipped_round
    assert (await tight.progress()).skipped_round == skipping.skipped_round
    assert await all_rows(store._engine, "select hook from hooks") == [("success",), ("success",)]
    assert sum(moods.asked.values()) == 4 + 8


async def filled_with(overnight: Overnight, reviews: list[Weigh], **options: Any) -> CampaignHandle:
    campaign = await filled(overnight, "anthropic", 0, rounds=2, retry_invalid=True, **options)
    await campaign.add_all(reviews)
    return campaign


@slow_provider
async def test_a_cancel_stops_what_runs_and_keeps_the_rest_from_being_sent(
    overnight: Overnight, store: Store, account: httpx.AsyncClient
) -> None:
    campaign = await filled(overnight, "openai", 50, max_concurrent_batches=2)
    with pytest.raises(CancelRefusedError, match="never submitted"):
        await campaign.cancel()
    await campaign.submit()
    while await at_the_provider(account) < 2:
        await asyncio.sleep(0.1)
    await campaign.cancel()
    finished = await campaign.wait()

    assert finished.status is BatchStatus.CANCELED
    assert sum(finished.outcomes.values()) == 50
    assert finished.outcomes[Outcome.CANCELED] >= 30
    assert await at_the_provider(account) == 2
    assert len(await all_rows(store._engine, "select * from kept")) == 50
    assert await all_rows(store._engine, "select hook from hooks") == [("failure",)]
    with pytest.raises(CancelRefusedError, match="it is over"):
        await campaign.cancel()


@slow_provider
async def test_max_age_is_of_the_whole_and_ends_it(overnight: Overnight, account: httpx.AsyncClient) -> None:
    campaign = await filled(overnight, "openai", 30, max_concurrent_batches=1, rounds=3, max_age=timedelta(seconds=2))
    await campaign.submit()
    finished = await campaign.wait()

    assert finished.status is BatchStatus.EXPIRED
    assert finished.failure_code == "max_age_exceeded"
    assert finished.outcomes[Outcome.EXPIRED] == 20
    assert sum(finished.outcomes.values()) == 30
    assert finished.round == 1


@slow_provider
async def test_a_batch_whose_workflow_was_terminated_gets_another_one_and_is_paid_once(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    campaign = await filled(overnight, "openai", 20)
    await campaign.submit()
    while await at_the_provider(account) < 2:
        await asyncio.sleep(0.1)
    first, _ = await campaign.batches()
    await overnight.temporal.get_workflow_handle(f"batch-{first.id}").terminate("by mistake")
    while (await described(overnight, f"batch-{first.id}")) is not WorkflowExecutionStatus.RUNNING:
        await asyncio.sleep(0.1)
    await account.post("/advance", json={"seconds": 20_000})
    finished = await campaign.wait()

    assert finished.batches == {BatchStatus.ENDED: 2}
    assert finished.outcomes == {Outcome.SUCCEEDED: 20}
    assert await at_the_provider(account) == 2


async def orphaned(overnight: Overnight, account: httpx.AsyncClient) -> CampaignHandle:
    """A campaign whose workflow is gone while two of its three batches run at the provider."""
    campaign = await filled(overnight, "openai", 30, max_concurrent_batches=2)
    await campaign.submit()
    while await at_the_provider(account) < 2:
        await asyncio.sleep(0.1)
    await overnight.temporal.get_workflow_handle(workflow_id(campaign.id)).terminate("by mistake")
    return campaign


@slow_provider
async def test_a_campaign_whose_workflow_was_terminated_goes_on_where_it_was(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    campaign = await orphaned(overnight, account)
    (lost,) = await lost_campaigns(overnight)
    await reattach_campaign(overnight, lost)
    assert await lost_campaigns(overnight) == []
    await account.post("/advance", json={"seconds": 20_000})
    while await at_the_provider(account) < 3:
        await asyncio.sleep(0.1)
    await account.post("/advance", json={"seconds": 20_000})
    finished = await campaign.wait()

    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 30}
    assert await at_the_provider(account) == 3


@slow_provider
async def test_a_cancel_after_the_workflow_was_lost_reaches_what_runs_at_the_provider(
    overnight: Overnight, account: httpx.AsyncClient
) -> None:
    campaign = await orphaned(overnight, account)
    await reattach_campaign(overnight, await campaign.get(), cancel=True)
    finished = await campaign.wait()

    assert (finished.status, finished.outcomes) == (BatchStatus.CANCELED, {Outcome.CANCELED: 30})
    assert finished.cancel_requested_at is not None
    assert await at_the_provider(account) == 2


async def test_what_makes_no_sense_is_said_before_anything_is_sent(overnight: Overnight) -> None:
    campaign = await overnight.create_campaign(provider="openai", model=MODELS["openai"], max_batch_entries=2)
    with pytest.raises(EmptyBatchError, match="Campaign"):
        await campaign.submit()
    with pytest.raises(DuplicateCustomIdError, match="in this campaign"):
        await campaign.add_all(
            [Weigh(review=f"{n}") for n in range(5)], custom_id=lambda task: f"w-{int(task.review) % 4}"
        )
    await campaign.add_all([Weigh(review=f"{n}") for n in range(5)])
    (part, *_) = await campaign.batches()
    with pytest.raises(OfCampaignError):
        await overnight.batch(part.id).add(Weigh(review="more"))
    with pytest.raises(OfCampaignError):
        await overnight.batch(part.id).submit()
    with pytest.raises(UnknownHandlerError, match="no CampaignHandler"):
        await overnight.create_campaign(provider="openai", model=MODELS["openai"], handler="campaign-of-a-batch")
    with pytest.raises(UnknownHandlerError, match="no BatchHandler"):
        await overnight.create_batch(provider="openai", model=MODELS["openai"], handler="campaign-keep")
    with pytest.raises(UsageError, match="rounds"):
        await overnight.create_campaign(provider="openai", model=MODELS["openai"], rounds=0)


async def test_the_command_line_lists_campaigns(
    overnight: Overnight, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = await filled(overnight, "openai", 15)
    assert settings.database_url is not None
    monkeypatch.setenv("OVERNIGHT_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("COLUMNS", "200")

    assert await asyncio.to_thread(main, ["campaigns"]) == 0
    shown = capsys.readouterr().out
    assert str(campaign.id) in shown
    assert "2 pending" in shown
    assert await asyncio.to_thread(main, ["campaigns", str(campaign.id), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entry_count"] == 15
