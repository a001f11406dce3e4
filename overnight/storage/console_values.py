"""What the web console is told: rows as values, with no text that is longer than a page can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from overnight.batches import Batch, BatchStatus, Cost, Outcome, Usage
from overnight.campaigns import Campaign

ItemT = TypeVar("ItemT")

EXCERPT = 1_000_000
"""Characters of a text that are read in order to show some of it."""


LONG = 50_000
"""Characters of one text on a page; the whole of it is a page of its own."""


class Part(StrEnum):
    """The texts of an entry."""

    REQUEST = "request"
    FIELDS = "fields"
    RESPONSE = "response"
    OUTPUT = "output"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, kw_only=True)
class BatchChoice:
    """Which batches, or campaigns, are wanted; None is any."""

    status: BatchStatus | None = None
    provider: str | None = None
    model: str | None = None
    handler: str | None = None
    open: bool = False
    """Only those whose handler has yet to run."""
    troubled: bool = False
    """Only those that need attention."""


@dataclass(frozen=True, kw_only=True)
class Page(Generic[ItemT]):
    """Some rows, in the order in which they are shown, and whether there are more on either side."""

    items: Sequence[ItemT]
    has_previous: bool
    has_next: bool


class Edge(NamedTuple):
    """Where a page of batches, or of campaigns, begins: next to this one, which is on the page before (or, backwards,
    behind).
    """

    at: datetime
    id: UUID
    backwards: bool = False


class Place(NamedTuple):
    """Where a page of entries begins: next to this position. Of a campaign's batches: next to this number."""

    position: int = 0
    backwards: bool = False


class StrayPlace(NamedTuple):
    """Which stray line; the table's key within a batch."""

    source: str
    ends_at: int
    number: int


@dataclass(frozen=True, kw_only=True)
class ListedBatch:
    """A batch, as far as a list shows it.

    Attributes:
        number: 1, 2, ... within its campaign.
        round: of its campaign.
    """

    id: UUID
    number: int | None
    round: int | None
    provider: str
    model: str
    handler: str | None
    status: BatchStatus
    entry_count: int
    done: int
    outcomes: Mapping[Outcome, int]
    cost: Cost
    created_at: datetime
    ended_at: datetime | None
    handled_at: datetime | None
    trouble_code: str | None
    results_lost_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One submission."""

    number: int
    created_at: datetime
    started_at: datetime | None
    doubted_at: datetime | None
    accepted_at: datetime | None
    abandoned_at: datetime | None
    provider_batch_id: str | None


@dataclass(frozen=True, kw_only=True)
class ShownBatch:
    """A batch with what only the console shows.

    Attributes:
        batch: without its metadata and provider details.
        metadata: as JSON text.
    """

    batch: Batch
    metadata: str
    trouble_since: datetime | None
    price_version: str | None
    attempts: Sequence[Attempt]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What some batches of a campaign come to, by the sums that each batch has of its own.

    Attributes:
        batches: how many there are in each status.
        entries: of all of them: an entry counts as often as it is asked.
        answered: entries that the provider has answered and that are not read yet, as far as it says.
        outcomes: entries per outcome, of every attempt that is known.
        retried: those among them that were asked again.
        cost: of every attempt that is known; None as soon as the price of one is not.
        read: batches whose results are ingested.
    """

    batches: Mapping[BatchStatus, int]
    entries: int
    answered: int
    outcomes: Mapping[Outcome, int]
    retried: Mapping[Outcome, int]
    usage: Usage
    cost: Cost
    read: int

    @property
    def latest(self) -> Mapping[Outcome, int]:
        """Entries per outcome of their newest attempt."""
        counts = {outcome: count - self.retried.get(outcome, 0) for outcome, count in self.outcomes.items()}
        return {outcome: count for outcome, count in counts.items() if count}

    @property
    def over(self) -> int:
        """Batches with a terminal status."""
        return sum(count for status, count in self.batches.items() if status.is_terminal)


@dataclass(frozen=True, kw_only=True)
class ListedCampaign:
    """A campaign, as far as a list shows it.

    Attributes:
        entry_count: what was added; how often they are asked counts no more.
        troubled: how many of its batches need attention.
        trouble_code: of the campaign itself.
        is_left: it was handed over, and no workflow has begun to look after it.
    """

    id: UUID
    provider: str
    model: str
    handler: str | None
    status: BatchStatus
    entry_count: int
    rounds: int
    round: int
    max_cost: Decimal | None
    created_at: datetime
    sealed_at: datetime | None
    ended_at: datetime | None
    trouble_code: str | None
    is_left: bool
    troubled: int
    tally: Tally


@dataclass(frozen=True, kw_only=True)
class ShownCampaign:
    """A campaign with what only the console shows.

    Attributes:
        campaign: without its metadata.
        metadata: as JSON text.
        troubled: how many of its batches need attention.
        tally: of all rounds.
        rounds: of each of them, from the first.
    """

    campaign: Campaign
    metadata: str
    trouble_since: datetime | None
    is_left: bool
    troubled: int
    tally: Tally
    rounds: Mapping[int, Tally]


@dataclass(frozen=True, kw_only=True)
class ListedEntry:
    """An entry, as far as a list shows it; no text of it is longer than a line or two."""

    position: int
    custom_id: str
    task: str | None
    outcome: Outcome | None
    error_code: str | None
    reason: str | None
    usage: Usage
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The beginning of a text, and how many bytes all of it has."""

    text: str
    size: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it."""
        return len(self.text) >= EXCERPT


@dataclass(frozen=True, kw_only=True)
class ShownEntry:
    """An entry with its texts."""

    entry: ListedEntry
    texts: Mapping[Part, Excerpt]


@dataclass(frozen=True, kw_only=True)
class ListedStray:
    """The beginning of a received line that is no entry's result."""

    place: StrayPlace
    kind: str
    custom_id: str | None
    start: bytes
    size: int
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An entry that was searched for."""

    batch_id: UUID
    created_at: datetime
    model: str
    position: int
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the newest batches have to choose from."""

    providers: Sequence[str]
    models: Sequence[str]
    handlers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What some batches cost together.

    Attributes:
        batches: all of them, those included that cost nothing yet.
        unpriced: those that are read and whose price is not known: they are in no sum of money.
        billed: US dollars at the batch rate.
        list_price: US dollars that the same tokens cost without batching.
    """

    batches: int
    entries: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    billed: Decimal
    list_price: Decimal


@dataclass(frozen=True, kw_only=True)
class Spendings:
    """The same batches three ways; the dearest model and handler first."""

    days: Mapping[date, Spending]
    models: Mapping[tuple[str, str], Spending]
    """By provider and model."""
    handlers: Mapping[str | None, Spending]
    total: Spending
