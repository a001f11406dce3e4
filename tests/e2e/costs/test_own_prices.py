"""A deployment's own prices and fees, and what a batch costs that was canceled half way."""

from decimal import Decimal
from typing import Any

import pytest

from overnight import Batch, BatchStatus, Outcome, Overnight, RawRequest, Settings, Task, WebSearch
from overnight.batches import Cost
from overnight.contracts import BatchRef, BatchStart, OpenRequest
from overnight.costs import tariff
from overnight.fees import read_fees
from overnight.intake import Items
from overnight.prices import read_overrides
from tests.acceptance.stage import MODELS, AtTheProvider, Steps

OWN = {"input": 3, "output": 7, "batch_factor": "0.1"}
WORDS = [f"w-{number}" for number in range(40)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    fees = read_fees({"anthropic": {"web_search": 10}})
    return settings.model_copy(
        update={"prices": read_overrides({"openai": {MODELS["openai"]: OWN}}), "tool_fees": fees}
    )


async def test_what_was_answered_before_the_cancel_is_paid_at_ones_own_prices(
    overnight: Overnight, steps: Steps, account: AtTheProvider
) -> None:
    batch = await steps.batch("openai", WORDS)
    await steps.submit(batch.id)
    await account.advance(510)
    await steps._run("cancel_batch", BatchRef(batch_id=batch.id))
    await account.advance(20)
    await steps.poll(batch.id)
    await steps.ingest(batch.id)

    found = await batch.get()
    assert found.status is BatchStatus.CANCELED
    assert 0 < found.outcomes[Outcome.SUCCEEDED] < len(WORDS)
    listed = Decimal(3 * found.usage.input_tokens + 7 * found.usage.output_tokens) / 1_000_000
    assert found.cost == Cost(billed=listed / 10, list_price=listed)
    assert found.cost.billed == sum([entry.cost.billed or 0 async for entry in batch.entries()])
    assert found.price_version == overnight.settings.prices["openai"][MODELS["openai"]].version


class Research(Task[str], name="costs-research"):
    question: str
    max_tokens = 100
    provider_tools = (WebSearch(max_uses=1),)

    def prompt(self) -> str:
        return self.question


class Know(Task[str], name="costs-know"):
    question: str
    max_tokens = 100

    def prompt(self) -> str:
        return self.question


ITEMS = [Know(question="What is night?"), Research(question="When is it?")]


async def answered(
    provider: str, overnight: Overnight, steps: Steps, account: AtTheProvider, items: Items = ITEMS, **options: Any
) -> Batch:
    """A batch of two entries of which the second is not answered without a search."""
    batch = await overnight.create_batch(provider=provider, model=MODELS[provider], **options)
    await batch.add_all(items)
    start = OpenRequest(start=BatchStart(batch_id=batch.id), workflow_id=f"batch-{batch.id}", run_id="by hand")
    await steps._run("open_batch", start)
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    await steps.ingest(batch.id)
    return await batch.get()


async def test_a_search_costs_its_fee_where_that_is_known_and_makes_the_cost_unknown_where_it_is_not(
    overnight: Overnight, steps: Steps, account: AtTheProvider
) -> None:
    known = await answered("anthropic", overnight, steps, account)
    unknown = await answered("openai", overnight, steps, account)

    plain, searched = [entry async for entry in overnight.batch(known.id).entries()]
    prices = tariff("anthropic", MODELS["anthropic"], at=known.submitted_at)
    of_tokens = prices.cost_of(searched.usage)
    assert plain.cost == prices.cost_of(plain.usage)
    assert of_tokens.billed is not None
    assert searched.cost.billed == of_tokens.billed + Decimal("0.01")
    assert known.cost.billed == sum(entry.cost.billed or 0 for entry in (plain, searched))
    assert "OVERNIGHT_TOOL_FEES" in (known.price_version or "")

    plain, searched = [entry async for entry in overnight.batch(unknown.id).entries()]
    assert plain.cost.billed is not None
    assert searched.usage.input_tokens > 0
    assert searched.cost == unknown.cost == Cost(billed=None, list_price=None)
    assert "OVERNIGHT_TOOL_FEES" not in (unknown.price_version or "")


def chat(**more: Any) -> RawRequest:
    messages = [{"role": "user", "content": "What is new?"}]
    return RawRequest(body={"model": MODELS["openai"], "messages": messages} | more)


async def test_a_search_that_no_answer_tells_makes_the_cost_unknown(
    overnight: Overnight, steps: Steps, account: AtTheProvider
) -> None:
    items = [chat(metadata={"web_search_options": "none"}), chat(web_search_options={})]
    batch = await answered("openai", overnight, steps, account, items, endpoint="/v1/chat/completions")

    plain, searched = [entry async for entry in overnight.batch(batch.id).entries()]
    assert plain.cost.billed is not None
    assert searched.usage.input_tokens > 0
    assert searched.cost == batch.cost == Cost(billed=None, list_price=None)
