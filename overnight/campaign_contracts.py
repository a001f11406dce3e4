"""The Temporal boundary of campaigns: as in `overnight.contracts`, whose rules hold here as well."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from pydantic import Field
from temporalio import activity

from overnight.batches import BatchStatus, Outcome
from overnight.contracts import BatchOptions, Handled, Payload, StartPayload, Trouble, by_name
from overnight.pace import Pace
from overnight.schedule import PollSchedule

WORKFLOW = "Campaign"


def workflow_id(campaign_id: UUID) -> str:
    """The id of the one workflow that runs a campaign."""
    return f"campaign-{campaign_id}"


class CampaignOptions(BatchOptions):
    """What is chosen once for a whole campaign; what a `BatchOptions` has holds for each of its batches."""

    rounds: int = Field(default=1, ge=1, le=20)
    retry_invalid: bool = False
    max_concurrent_batches: int = Field(default=10, ge=1, le=500)
    """Temporal holds a workflow to 2,000 open children."""
    max_batch_entries: int | None = Field(default=None, ge=1)
    campaign_max_age: timedelta | None = Field(default=None, gt=timedelta(0))


class CampaignState(Payload):
    """What the workflow remembers when a long history continues as new: its batches run on meanwhile."""

    running: list[UUID] = Field(default_factory=list)
    limit: int
    calm: int
    is_held: bool
    cancel_requested: bool = False
    stopped: bool = False
    looks: int = 0
    trouble: Trouble | None = None
    order: str | None = None
    """As in a `PollState`."""

    def pace(self, maximum: int) -> Pace:
        """How many batches may run at once."""
        return Pace(maximum=maximum, limit=self.limit, calm=self.calm, is_held=self.is_held)


class CampaignStart(StartPayload):
    """The argument of the `Campaign` workflow: a campaign that is in Postgres."""

    campaign_id: UUID
    resume: CampaignState | None = None


class OpenCampaign(Handled):
    """What the workflow must know of its campaign in order to sequence it."""

    campaign_id: UUID
    status: BatchStatus
    entry_count: int
    round: int
    rounds: int
    max_concurrent_batches: int
    poll_waits: list[timedelta]
    sealed_at: datetime
    retry_invalid: bool = False
    max_age: timedelta | None = None
    cancel_requested: bool = False
    """Somebody asked before this workflow ran; no signal will come again for it."""

    @property
    def subject(self) -> Mapping[str, UUID]:
        """The campaign."""
        return {"campaign_id": self.campaign_id}

    @property
    def planning_queue(self) -> str | None:
        """To ask again after an answer that did not fit needs the Tasks, and nothing else about a round does."""
        return self.tasks_queue if self.retry_invalid else None

    @property
    def looks(self) -> PollSchedule:
        """When to look at the batches again, where none of them says that it has ended."""
        return PollSchedule(waits=tuple(self.poll_waits))


class ClaimRequest(Payload):
    """Claim a campaign for the workflow that asks."""

    campaign_id: UUID
    workflow_id: str


class CampaignRef(Payload):
    """A campaign by its id."""

    campaign_id: UUID


class LookRequest(Payload):
    """How are the batches that run, and which come next?"""

    campaign_id: UUID
    running: list[UUID]
    limit: int
    """How many that come next to name."""


class LookReport(Payload):
    """Where a campaign's batches stand. Fields come in order of interest, as in a `PollReport`."""

    statuses: dict[BatchStatus, int] = Field(default_factory=dict)
    done: int = 0
    """Entries that the provider has answered, as far as it says."""
    over: list[UUID] = Field(default_factory=list)
    found: list[UUID] = Field(default_factory=list)
    """Running, and not asked about: an earlier workflow of the campaign, which is lost, has started them."""
    lost: list[UUID] = Field(default_factory=list)
    """Not over, and without a workflow that runs: it was terminated, or never came to be."""
    without_room: list[UUID] = Field(default_factory=list)
    """The provider does not take them for now."""
    waiting: list[UUID] = Field(default_factory=list)


class StopRequest(Payload):
    """Close what was never started, and mark what runs as to be canceled."""

    campaign_id: UUID
    running: list[UUID]
    too_old: bool


class StopReport(Payload):
    """How many batches were closed before they were sent."""

    closed: int


class RoundRequest(Payload):
    """Put what is worth another try after this round into further batches."""

    campaign_id: UUID
    after: int


class RoundReport(Payload):
    """The next round; without entries there is none."""

    round: int
    batches: int
    entries: int
    skipped: str | None = None
    """Why there is none although there was something to ask again: the campaign's `max_cost`."""


class CampaignSummary(Payload):
    """The result of the `Campaign` workflow, and what a `handler_activity` is called with."""

    campaign_id: UUID
    status: BatchStatus
    outcomes: dict[Outcome, int]
    batches: dict[BatchStatus, int]
    rounds: int
    cost: Decimal | None = None
    list_cost: Decimal | None = None
    reason: str | None = None
    skipped_round: str | None = None
    """As in a `RoundReport`."""


class CampaignProgress(Payload):
    """The answer to the `progress` query."""

    campaign_id: UUID | None
    step: str
    round: int
    statuses: dict[BatchStatus, int]
    running: int
    limit: int
    """How many batches may run at present."""
    done: int
    total: int
    """Entries of the first round."""
    next_look_at: datetime | None
    cancel_requested: bool
    last_error: str | None
    """What keeps a step or the handler from succeeding."""
    skipped_round: str | None = None
    """As in a `RoundReport`."""


@activity.defn(name="open_campaign")
async def open_campaign(request: ClaimRequest) -> OpenCampaign:
    """Claim the campaign for this workflow; no entry can be added any more."""
    raise NotImplementedError


@activity.defn(name="look_at_batches")
async def look_at_batches(request: LookRequest) -> LookReport:
    """One look at the campaign's batches, as the database and Temporal know them."""
    raise NotImplementedError


@activity.defn(name="stop_campaign")
async def stop_campaign(request: StopRequest) -> StopReport:
    """Nothing more is to be asked."""
    raise NotImplementedError


@activity.defn(name="plan_round")
async def plan_round(request: RoundRequest) -> RoundReport:
    """Put what is worth another try into further batches."""
    raise NotImplementedError


@activity.defn(name="settle_campaign")
async def settle_campaign(request: CampaignRef) -> CampaignSummary:
    """Add everything up."""
    raise NotImplementedError


ACTIVITIES = by_name(
    open_campaign,
    look_at_batches,
    stop_campaign,
    plan_round,
    settle_campaign,
)
