"""What a campaign may spend: its `max_cost`, over all its batches and all its rounds.

The first round is held against it before anything is sent, as a batch is. Each further one is held against what is left
of it by then, as late as possible: what the rounds before have cost is known by their bills.
"""

from decimal import Decimal
from uuid import UUID

from overnight.campaigns import Campaign, whole_cost
from overnight.estimates import Estimator, check_max_cost, estimate, estimator
from overnight.prices import PriceOverrides
from overnight.storage.filling import FurtherEntry
from overnight.storage.store import Store


async def seal_campaign_within_cost(
    store: Store, campaign_id: UUID, overrides: PriceOverrides, *, filling_token: UUID | None = None
) -> tuple[Campaign, bool]:
    """Close a campaign to further entries, unless it could cost more than its `max_cost`; as for a batch.

    Raises:
        BatchTakenOverError: somebody else fills it anew.
        CostLimitError: it could cost more, or nobody can say how much; it stays as it is.
        EmptyBatchError: it has no entries.
        UnknownCampaignError: there is no such campaign.
    """
    while True:
        campaign = await store.campaigns.get(campaign_id)
        if campaign.max_cost is None or campaign.sealed_at is not None:
            return await store.campaigns.seal(campaign_id, filling_token=filling_token)
        check_max_cost(campaign, campaign.max_cost, await estimate(store, campaign, overrides))
        count = campaign.entry_count
        sealed, first = await store.campaigns.seal(campaign_id, entry_count=count, filling_token=filling_token)
        if first or sealed.sealed_at is not None or sealed.ended_at is not None:
            return sealed, first


class Allowance:
    """What is left of a campaign's `max_cost` for its next round, which is weighed entry by entry."""

    def __init__(self, max_cost: Decimal, paid: Decimal | None, weighing: Estimator) -> None:
        self._max_cost, self._paid, self._weighing = max_cost, paid, weighing

    @classmethod
    async def of(cls, store: Store, campaign: Campaign, overrides: PriceOverrides) -> "Allowance | None":
        """None where nobody has set a limit."""
        if campaign.max_cost is None:
            return None
        paid = whole_cost(await store.campaigns.batches(campaign.id)).billed
        return cls(campaign.max_cost, paid, await estimator(store, campaign, overrides))

    def add(self, entry: FurtherEntry) -> None:
        """Weigh an entry of the round."""
        self._weighing.add(entry.task, entry.request)

    def objection(self) -> str | None:
        """Why the round shall not be asked, or None."""
        limit, found = _dollars(self._max_cost), self._weighing.result()
        if self._paid is None:
            return f"The max_cost is {limit}, and what was billed so far is not known. Nothing was asked again."
        at_most = found.cost_at_most.billed
        if at_most is None:
            why = " ".join(found.unknown)
            return f"The max_cost is {limit}, and what another round can cost is not known. {why}"
        if self._paid + at_most <= self._max_cost:
            return None
        return (
            f"{_dollars(self._paid)} of the max_cost of {limit} are paid, and to ask {found.entries} entries again "
            f"could cost up to {_dollars(at_most)}. Nothing was asked again."
        )


def _dollars(amount: Decimal) -> str:
    # No dollar signs: Temporal's UI takes what stands between two of them for a formula.
    return f"{amount.normalize():f} USD"
