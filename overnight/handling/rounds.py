"""Plan a further round of a campaign, with the user's Tasks where answers did not fit."""

import asyncio
import logging
from collections.abc import AsyncIterator

from temporalio import activity

from overnight.campaign_contracts import RoundReport, RoundRequest
from overnight.campaigns import Campaign
from overnight.handling.failures import step
from overnight.handling.heartbeats import heartbeating
from overnight.handling.services import Services
from overnight.log_events import LogEvent
from overnight.planning import Share
from overnight.providers import provider_facts
from overnight.providers.base import ProviderFacts
from overnight.repairing import Repairer
from overnight.spending import Allowance
from overnight.storage.filling import FurtherEntry
from overnight.storage.rounds import WorthAnotherTry

logger = logging.getLogger(__name__)


class RoundActivities:
    """From what did not succeed to what is asked again."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="plan_round")
    @step
    async def plan_round(self, request: RoundRequest) -> RoundReport:
        campaign = await self._store.campaigns.get(request.campaign_id)
        facts = provider_facts(campaign.provider)
        share = Share.of(facts.limits, frame_bytes=facts.frame_bytes, max_entries=campaign.max_batch_entries)
        allowance = await Allowance.of(self._store, campaign, self._services.settings.prices)
        further = self._further(campaign, request.after, facts)
        async with heartbeating():
            planned = await self._store.rounds.plan(
                campaign.id,
                request.after,
                further if allowance is None else _weighed(further, allowance),
                share,
                objection=allowance.objection if allowance else None,
            )
        if planned.skipped is not None:
            logger.warning(
                "campaign %s: round %s is skipped: %s",
                campaign.id,
                planned.round,
                planned.skipped,
                extra={"event": LogEvent.ROUND_SKIPPED},
            )
        return RoundReport(
            round=planned.round, batches=planned.batches, entries=planned.entries, skipped=planned.skipped
        )

    async def _further(self, campaign: Campaign, after: int, facts: ProviderFacts) -> AsyncIterator[FurtherEntry]:
        repairer = Repairer(facts, model=campaign.model, endpoint=campaign.endpoint)
        wanted = WorthAnotherTry(codes=facts.retryable_codes, invalid=campaign.retry_invalid)
        async for candidate in self._store.rounds.candidates(campaign.id, after, wanted):
            await asyncio.sleep(0)  # a Task's `repair` may be slow, and heartbeats must get their turn
            further = repairer.further(candidate)
            if further is not None:
                yield further


async def _weighed(further: AsyncIterator[FurtherEntry], allowance: Allowance) -> AsyncIterator[FurtherEntry]:
    async for entry in further:
        allowance.add(entry)
        yield entry
