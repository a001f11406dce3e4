"""What a campaign is: any number of entries, in as many batches as the provider needs. Frozen values, no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from overnight.batches import Batch, BatchStatus, Cost, OnAmbiguousSubmit, Outcome, Usage
from overnight.schedule import PollSchedule


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """One campaign, as the database knew it at the time of reading.

    Attributes:
        schedule: of each of its batches.
        max_age: of the whole, from its submit; what is not over by then is canceled. None waits as long as it takes.
        rounds: how often an entry may be asked, the first time included.
        round: the present one.
        retry_invalid: entries whose answer did not fit are asked again, too.
        max_batch_entries: None where a batch may be as large as the provider takes it.
        max_cost: US dollars, for all rounds together: what could exceed it is not submitted.
        parent_batch_id: the batch whose handler created it.
        skipped_round: why no further round was asked, where one was due.
        entry_count: of the first round: what was added.
        batches: how many batches there are in each status, over all rounds.
        outcomes: entries per outcome of their latest attempt, as far as it is known.
        asked_again: further attempts, over all rounds.
        usage: of all attempts.
        cost: of all attempts; None as soon as one of them is not known.
    """

    id: UUID
    provider: str
    model: str
    endpoint: str
    status: BatchStatus
    handler: str | None
    handler_task_queue: str | None
    handler_activity: str | None
    metadata: Mapping[str, Any]
    schedule: PollSchedule
    max_age: timedelta | None
    on_ambiguous_submit: OnAmbiguousSubmit
    rounds: int
    round: int
    retry_invalid: bool
    max_concurrent_batches: int
    max_batch_entries: int | None
    max_cost: Decimal | None = None
    parent_batch_id: UUID | None = None
    entry_count: int
    created_at: datetime
    sealed_at: datetime | None
    cancel_requested_at: datetime | None
    ended_at: datetime | None
    handler_dispatched_at: datetime | None
    workflow_id: str | None
    batches: Mapping[BatchStatus, int]
    outcomes: Mapping[Outcome, int]
    asked_again: int
    usage: Usage
    cost: Cost
    skipped_round: str | None = None
    failure_code: str | None
    failure_reason: str | None
    last_error: str | None
    trouble_code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a campaign ended, and, where it did not just end, why."""

    status: BatchStatus
    code: str | None = None
    reason: str | None = None


def latest_outcomes(batches: Iterable[Batch]) -> dict[Outcome, int]:
    """Entries per outcome of their latest attempt: what was asked again counts where it was asked last."""
    total: Counter[Outcome] = Counter()
    for batch in batches:
        total.update(batch.outcomes)
        total.subtract(batch.retried)
    return {outcome: total[outcome] for outcome in Outcome if total[outcome]}


def whole_cost(batches: Iterable[Batch]) -> Cost:
    """What all attempts cost that were read so far; unknown as soon as one is: never a lower sum on a guess."""
    costs = [batch.cost for batch in batches if batch.ingested_at is not None]
    billed = [cost.billed for cost in costs if cost.billed is not None]
    listed = [cost.list_price for cost in costs if cost.list_price is not None]
    known = bool(costs) and len(billed) == len(listed) == len(costs)
    return Cost(billed=sum(billed) if known else None, list_price=sum(listed) if known else None)  # type: ignore[arg-type]


def whole_usage(batches: Iterable[Batch]) -> Usage:
    """The tokens of all attempts."""
    return sum((batch.usage for batch in batches), start=Usage())


def _is_made_up_for(batch: Batch) -> bool:
    """Whether every entry of it that did not succeed was asked again, so that how it ended matters no more."""
    unsuccessful = sum(batch.outcomes.values()) - batch.outcomes.get(Outcome.SUCCEEDED, 0)
    return bool(batch.outcomes) and sum(batch.retried.values()) == unsuccessful


def ending_of(batches: Sequence[Batch], *, cancel_requested: bool, too_old: bool) -> Ending:
    """What became of a campaign whose batches are all over.

    It `ended` when they all did. A batch that did not, but whose open entries all found a place in a further round,
    counts no more.
    """
    short = [batch for batch in batches if not batch.status.is_success and not _is_made_up_for(batch)]
    if not short:
        return Ending(status=BatchStatus.ENDED)
    counts = Counter(batch.status for batch in short)
    told = ", ".join(f"{count} {status.value}" for status, count in sorted(counts.items()))
    reason = f"{len(short)} of {len(batches)} batches did not end: {told}."
    if too_old:
        return Ending(status=BatchStatus.EXPIRED, code="max_age_exceeded", reason=f"Max age has passed: {reason}")
    if cancel_requested:
        return Ending(status=BatchStatus.CANCELED, code="canceled", reason=reason)
    worst = min(short, key=lambda batch: _WORST_FIRST.index(batch.status))
    return Ending(status=worst.status, code=worst.failure_code, reason=reason)


_WORST_FIRST = (BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELED)
