"""A deployment's own prices, and what a batch costs that was canceled half way."""

from decimal import Decimal

import pytest

from overnight import BatchStatus, Outcome, Overnight, Settings
from overnight.batches import Cost
from overnight.contracts import BatchRef
from overnight.prices import read_overrides
from tests.acceptance.stage import MODELS, AtTheProvider, Steps

OWN = {"input": 3, "output": 7, "batch_factor": "0.1"}
WORDS = [f"w-{number}" for number in range(40)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"prices": read_overrides({"openai": {MODELS["openai"]: OWN}})})


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
