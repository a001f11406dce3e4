"""What becomes of a campaign, given what became of its batches."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from overnight.batches import Batch, BatchStatus, Cost, Outcome
from overnight.campaigns import ending_of, latest_outcomes, whole_cost
from tests.unit.test_values import batch

ENDED, CANCELED, EXPIRED, FAILED = (
    BatchStatus.ENDED,
    BatchStatus.CANCELED,
    BatchStatus.EXPIRED,
    BatchStatus.FAILED,
)


def part(status: BatchStatus, **changes: Any) -> Batch:
    known: dict[str, Any] = {"status": status, "outcomes": {Outcome.SUCCEEDED: 2, Outcome.EXPIRED: 1}}
    return replace(batch(), **(known | changes))


def ending(*parts: Batch, cancel_requested: bool = False, too_old: bool = False) -> BatchStatus:
    return ending_of(parts, cancel_requested=cancel_requested, too_old=too_old).status


def test_a_campaign_has_ended_when_all_its_batches_have() -> None:
    assert ending(part(ENDED), part(ENDED)) is ENDED
    assert ending(part(ENDED), cancel_requested=True) is ENDED
    assert ending(part(ENDED), too_old=True) is ENDED


@pytest.mark.parametrize("status", [CANCELED, EXPIRED, FAILED])
def test_one_batch_that_did_not_end_is_the_campaigns_end(status: BatchStatus) -> None:
    assert ending(part(ENDED), part(status)) is status
    told = ending_of([part(ENDED), part(status)], cancel_requested=False, too_old=False)
    assert told.reason == f"1 of 2 batches did not end: 1 {status.value}."


def test_a_failure_outweighs_what_expired_and_what_somebody_canceled() -> None:
    assert ending(part(CANCELED), part(EXPIRED), part(FAILED)) is FAILED
    assert ending(part(CANCELED), part(EXPIRED)) is EXPIRED
    assert ending(part(FAILED), part(CANCELED), cancel_requested=True) is CANCELED
    assert ending(part(FAILED), part(CANCELED), too_old=True) is EXPIRED


def test_a_batch_counts_no_more_when_all_that_it_left_open_was_asked_again() -> None:
    assert ending(part(EXPIRED, retried={Outcome.EXPIRED: 1}), part(ENDED)) is ENDED
    left = part(EXPIRED, outcomes={Outcome.EXPIRED: 2, Outcome.ERRORED: 1}, retried={Outcome.EXPIRED: 2})
    assert ending(left, part(ENDED)) is EXPIRED


def test_what_was_asked_again_counts_where_it_was_asked_last() -> None:
    first = part(EXPIRED, retried={Outcome.EXPIRED: 1})
    assert latest_outcomes([first, part(ENDED, outcomes={Outcome.ERRORED: 1})]) == {
        Outcome.SUCCEEDED: 2,
        Outcome.ERRORED: 1,
    }


def test_the_cost_is_of_all_attempts_and_unknown_as_soon_as_one_is() -> None:
    read = datetime(2026, 1, 1, tzinfo=UTC)
    cent, unknown = Cost(billed=Decimal("0.01"), list_price=Decimal("0.02")), Cost(billed=None, list_price=None)
    paid = part(ENDED, cost=cent, ingested_at=read)
    running = part(BatchStatus.IN_PROGRESS, cost=unknown, ingested_at=None)
    assert whole_cost([paid, paid, running]) == Cost(billed=Decimal("0.02"), list_price=Decimal("0.04"))
    assert whole_cost([paid, part(ENDED, cost=unknown, ingested_at=read)]) == unknown
    assert whole_cost([running]) == unknown
