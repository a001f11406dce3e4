"""CampaignHandle: any number of entries, to be added, submitted, watched and read."""

from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING, Any
from uuid import UUID

from overnight import campaign_contracts
from overnight.batches import Batch, Entry, Outcome
from overnight.campaign_contracts import CampaignProgress, CampaignStart
from overnight.campaigns import Campaign
from overnight.contracts import CANCEL
from overnight.errors import BatchClosedError
from overnight.estimates import Estimate, estimate
from overnight.handles import Handle, Submitted
from overnight.intake import Intake, Items
from overnight.planning import Share
from overnight.providers import provider_facts
from overnight.reading import campaign_entries
from overnight.spending import seal_campaign_within_cost
from overnight.storage.campaigns import NewCampaign
from overnight.tasks import Task

if TYPE_CHECKING:
    from overnight.client import Overnight


class CampaignHandle(Handle[Campaign]):
    """One campaign, to be filled, submitted, watched and read."""

    _what = "campaign"

    def __init__(self, overnight: "Overnight", campaign_id: UUID, *, filling_token: UUID | None = None) -> None:
        super().__init__(overnight, campaign_id)
        self._filling_token = filling_token

    async def get(self) -> Campaign:
        """The campaign as the database knows it now, with the sums over its batches.

        Raises:
            UnknownCampaignError: there is no such campaign.
        """
        return await self._store.campaigns.get(self.id)

    async def batches(self) -> list[Batch]:
        """Its batches of all rounds, in the order in which they were filled."""
        return await self._store.campaigns.batches(self.id)

    async def add_all(self, items: Items, *, custom_id: Callable[[Any], str | None] | None = None) -> int:
        """Add any number of entries, or, if anything is wrong with any of them, none; returns how many.

        They stream into the database, straight into batches of the provider's size: each is opened when the one before
        is full. The campaign is locked meanwhile: other adds and the submit wait.

        Args:
            items: Tasks or RawRequests, from any iterable, synchronous or asynchronous.
            custom_id: makes each item's custom id, unique in the whole campaign; by default the Task's name and a
                number, which costs nothing to check.

        Raises:
            BatchClosedError: the campaign was submitted.
            BatchTakenOverError: another process created it again by its key, and fills it.
            CustomIdError: a custom id that the provider would refuse.
            DuplicateCustomIdError: a custom id that is in the campaign already.
            RequestError: a request that the provider could not take.
        """
        campaign = await self.get()
        facts = provider_facts(campaign.provider)
        rendered = Intake(facts, model=campaign.model, endpoint=campaign.endpoint).entries(items, custom_id)
        share = Share.of(facts.limits, frame_bytes=facts.frame_bytes, max_entries=campaign.max_batch_entries)

        return await self._store.filling.add(self.id, rendered, share, filling_token=self._filling_token)

    async def estimate(self) -> Estimate:
        """What the first round will use and cost, from the entries it has by now; nothing is sent for it.

        Raises:
            UnknownCampaignError: there is no such campaign.
        """
        return await estimate(self._store, await self.get(), self._settings.prices)

    async def submit(self) -> None:
        """Hand the campaign over: from here on its workflow looks after it, and no entry can be added.

        When Temporal does not answer, the campaign stays handed over; a further call then starts its workflow.

        Raises:
            BatchClosedError: it was submitted already.
            BatchTakenOverError: another process created it again by its key, and fills it.
            CostLimitError: it could cost more than its `max_cost`. It stays pending and can still be added to.
            EmptyBatchError: it has no entries.
            TemporalError: Temporal does not answer.
        """
        prices = self._settings.prices
        campaign, first = await seal_campaign_within_cost(
            self._store, self.id, prices, filling_token=self._filling_token
        )
        if campaign.ended_at is not None:
            raise BatchClosedError(self.id, "submit", what="campaign")
        await self._start(
            campaign_contracts.WORKFLOW,
            CampaignStart(campaign_id=self.id),
            workflow_id=campaign_contracts.workflow_id(self.id),
            first=first,
            summary=f"{campaign.entry_count} entries for {campaign.model}",
        )

    async def progress(self) -> CampaignProgress:
        """What the campaign's workflow is doing right now.

        Raises:
            TemporalError: there is no such workflow, or no worker that could answer for it.
        """
        progress: CampaignProgress = await self._query(CampaignProgress)
        return progress

    async def cancel(self) -> None:
        """Ask for the whole campaign to be canceled: what was not sent stays unsent, entries that are answered by then
        keep their results, and nothing is asked again.

        Raises:
            CancelRefusedError: it was never submitted, or it is over.
            TemporalError: Temporal does not answer.
        """
        await self._store.campaigns.request_cancel(self.id)
        await self._signal(CANCEL)

    def _own_workflow_id(self) -> str:
        return campaign_contracts.workflow_id(self.id)

    def _stream_entries(
        self, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return campaign_entries(self._store, self.id, task, outcomes)


class _Submitted(Submitted[Campaign], CampaignHandle):
    """Created again by its key."""


async def created_campaign(overnight: "Overnight", new: NewCampaign) -> CampaignHandle:
    """Add the campaign to the database, unless it has a key and was handed over before."""
    if new.filling_token is None:
        await overnight.store.campaigns.create(new)
        return CampaignHandle(overnight, new.id)
    campaign = await overnight.store.campaigns.create_by_key(new)
    if campaign.sealed_at is not None:
        return _Submitted(overnight, new.id)
    return CampaignHandle(overnight, new.id, filling_token=new.filling_token)
