"""The steps of a campaign as a whole: claim, look, stop, settle. Its batches' steps are those of any batch."""

import asyncio
import contextlib
from collections.abc import Sequence
from uuid import UUID

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus

from activities.services import Services
from overnight import contracts
from overnight.campaign_contracts import (
    CampaignRef,
    CampaignSummary,
    ClaimRequest,
    LookReport,
    LookRequest,
    OpenCampaign,
    StopReport,
    StopRequest,
)
from overnight.campaigns import Campaign
from overnight.costs import price_version
from overnight.errors import CostLimitError
from overnight.handling.failures import step, translated
from overnight.handling.heartbeats import heartbeating
from overnight.spending import seal_campaign_within_cost
from overnight.storage.dispatches import AlreadyDispatchedError
from overnight.temporal import status_of

# What a workflow that came to no end of its own leaves behind. One that completed has its batch dispatched.
_LOST = frozenset(
    {
        WorkflowExecutionStatus.CANCELED,
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
    }
)


class CampaignActivities:
    """Looking after the batches of a campaign."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="open_campaign")
    @translated
    async def open_campaign(self, request: ClaimRequest) -> OpenCampaign:
        await self._seal(request.campaign_id)
        campaign = await self._store.campaigns.claim(request.campaign_id, request.workflow_id)
        return _open_report(campaign, is_searchable=await self._services.attributes.are_known(activity.client()))

    async def _seal(self, campaign_id: UUID) -> None:
        """As for a batch: what our client submits is closed by now, and was checked."""
        try:
            async with heartbeating():  # while all entries are weighed, however many there are
                await seal_campaign_within_cost(self._store, campaign_id, self._services.settings.prices)
        except CostLimitError as error:
            await self._store.campaigns.close(campaign_id, code="max_cost", reason=str(error))
            raise

    @activity.defn(name="look_at_batches")
    @step
    async def look_at_batches(self, request: LookRequest) -> LookReport:
        seen = await self._store.campaigns.look(request.campaign_id, request.running, limit=request.limit)
        over = set(seen.over)
        running = [batch_id for batch_id in request.running if batch_id not in over]
        return LookReport(
            statuses=dict(seen.statuses),
            done=seen.done,
            over=list(seen.over),
            found=list(seen.found),
            lost=await _lost(activity.client(), [*running, *seen.found]),
            without_room=list(seen.without_room),
            waiting=list(seen.waiting),
        )

    @activity.defn(name="stop_campaign")
    @step
    async def stop_campaign(self, request: StopRequest) -> StopReport:
        async with heartbeating():  # also while a plan that is being given up holds the campaign
            unsent = await self._store.campaigns.stop(request.campaign_id, request.running, too_old=request.too_old)
            for batch_id in unsent:
                await self._finish(batch_id)
        return StopReport(closed=len(unsent))

    async def _finish(self, batch_id: UUID) -> None:
        """Bring a batch that was never sent to its end, with an outcome for each of its entries."""
        await self._store.results.finish(batch_id, price_version=price_version())
        await self._store.outputs.finish(batch_id)
        with contextlib.suppress(AlreadyDispatchedError):  # by a workflow that was started in the meantime
            async with self._store.dispatches.attempt(batch_id) as dispatch:
                await dispatch.commit()

    @activity.defn(name="settle_campaign")
    @step
    async def settle_campaign(self, request: CampaignRef) -> CampaignSummary:
        campaign = await self._store.campaigns.settle(request.campaign_id)
        return CampaignSummary(
            campaign_id=campaign.id,
            status=campaign.status,
            outcomes=dict(campaign.outcomes),
            batches=dict(campaign.batches),
            rounds=campaign.round,
            cost=campaign.cost.billed,
            list_cost=campaign.cost.list_price,
            reason=campaign.failure_code,  # as in a `PollReport`
            skipped_round=campaign.skipped_round,
        )


def _open_report(campaign: Campaign, *, is_searchable: bool) -> OpenCampaign:
    assert campaign.sealed_at is not None
    return OpenCampaign(
        campaign_id=campaign.id,
        status=campaign.status,
        provider=campaign.provider,
        model=campaign.model,
        entry_count=campaign.entry_count,
        round=campaign.round,
        rounds=campaign.rounds,
        max_concurrent_batches=campaign.max_concurrent_batches,
        poll_waits=list(campaign.schedule.waits),
        sealed_at=campaign.sealed_at,
        retry_invalid=campaign.retry_invalid,
        max_age=campaign.max_age,
        cancel_requested=campaign.cancel_requested_at is not None,
        handler=campaign.handler,
        handler_task_queue=campaign.handler_task_queue,
        handler_activity=campaign.handler_activity,
        is_dispatched=campaign.handler_dispatched_at is not None,
        is_searchable=is_searchable,
        trouble_code=campaign.trouble_code,
    )


async def _lost(temporal: Client, batch_ids: Sequence[UUID]) -> list[UUID]:
    are_lost = await asyncio.gather(*(_is_lost(temporal, batch_id) for batch_id in batch_ids))
    return [batch_id for batch_id, is_lost in zip(batch_ids, are_lost, strict=True) if is_lost]


async def _is_lost(temporal: Client, batch_id: UUID) -> bool:
    status = await status_of(temporal, contracts.workflow_id(batch_id))
    return status is None or status in _LOST
