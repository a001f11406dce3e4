"""A campaign whose worker dies at every step of it, and its batches with it at places that nobody chose: one provider
batch per batch, one outcome per attempt, nothing asked twice that was answered, the handler's effects once.
"""

import asyncio
import random
from collections import Counter

import pytest

from overnight.batches import BatchStatus, Outcome
from overnight.campaign_contracts import workflow_id
from overnight.campaigning import CampaignHandle
from tests.chaos import harness_points
from tests.chaos.conftest import StartSystem
from tests.chaos.harness import MODELS, System
from tests.chaos.harness_tasks import Judge, KeepCampaign

ENTRIES = 24

PLACES = [
    "look_at_batches/end",
    "plan_round/plan.during",
    "plan_round/plan.after",
    "settle_campaign/settle.after",
    "dispatch_handler/handler.inside",
    "dispatch_handler/commit.after",
]

pytestmark = pytest.mark.timeout(300)


async def test_a_worker_may_die_at_any_step_of_a_campaign(surviving: StartSystem) -> None:
    async with surviving() as system:
        await system.fault({"kind": "lines", "how": "missing", "count": 3}, operation="batches.create", times=1)
        campaign = await started(system, rounds=3)
        for place in PLACES:
            harness_points.arm(system.points, workflow_id(campaign.id), place)
        await campaign.submit()
        while not (finished := await campaign.get()).handler_dispatched_at:
            await asyncio.sleep(0.2)

        assert system.deaths >= len(PLACES) - 1  # a plan can be quicker than a death in the middle of it
        assert finished.status is BatchStatus.ENDED
        assert finished.outcomes == {Outcome.SUCCEEDED: ENTRIES}
        assert (finished.round, finished.asked_again) == (2, 3)
        assert_handled_once(system, campaign, Counter(succeeded=ENTRIES), "success")


async def test_a_campaign_that_is_canceled_comes_out_whole_whenever_its_worker_dies(surviving: StartSystem) -> None:
    async with surviving(in_progress=30) as system:
        campaign = await started(system)
        for place in ("stop_campaign/stop.after", "stop_campaign/finish.after", "stop_campaign/end"):
            harness_points.arm(system.points, workflow_id(campaign.id), place)
        await campaign.submit()
        await system.until("select 1 from overnight.batches where provider_batch_id is not null")
        await campaign.cancel()
        while not (finished := await campaign.get()).handler_dispatched_at:
            await asyncio.sleep(random.uniform(0.3, 1.0))

        assert system.deaths == 3
        assert finished.status is BatchStatus.CANCELED
        assert sum(finished.outcomes.values()) == ENTRIES
        assert_handled_once(system, campaign, Counter(finished.outcomes), "failure")


async def started(system: System, **options: object) -> CampaignHandle:
    campaign = await system.overnight.create_campaign(
        provider="openai",
        model=MODELS["openai"],
        handler=KeepCampaign,
        max_batch_entries=8,
        max_concurrent_batches=2,
        **options,  # type: ignore[arg-type]
    )
    await campaign.add_all(Judge(review=f"review {number}") for number in range(ENTRIES))
    return campaign


def assert_handled_once(system: System, campaign: CampaignHandle, outcomes: Counter[str], hook: str) -> None:
    """Each entry once, with its last outcome; one hook that committed, whatever ran before it."""
    kept = system.rows("select custom_id, outcome from effects where batch_id = %s", [campaign.id])
    assert len({custom_id for custom_id, _ in kept}) == len(kept) == ENTRIES
    assert Counter(outcome for _, outcome in kept) == outcomes
    assert system.rows("select hook from runs where batch_id = %s", [campaign.id]) == [(hook,)]
