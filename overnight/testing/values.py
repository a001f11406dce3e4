"""Batches that never were: what a handler sees of one, made from the entries of a test."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from overnight.batches import Batch, BatchStatus, Cost, Entry, Progress, Usage
from overnight.errors import UsageError
from overnight.ids import new_batch_id
from overnight.providers import provider_facts
from overnight.schedule import PollSchedule

DEFAULT_PROVIDER = "openai"
DEFAULT_MODEL = "gpt-5.4-mini"

_MORNING = datetime.now(UTC)
_EVENING = _MORNING - timedelta(hours=8)
_OF_LAST_NIGHT = Batch(
    id=UUID(int=0),
    provider=DEFAULT_PROVIDER,
    model=DEFAULT_MODEL,
    endpoint="",
    status=BatchStatus.ENDED,
    handler=None,
    handler_task_queue=None,
    metadata={},
    schedule=PollSchedule(),
    created_at=_EVENING,
    sealed_at=_EVENING,
    submitted_at=_EVENING,
    ended_at=_MORNING,
    ingested_at=_MORNING,
    hydrated_at=_MORNING,
    handler_dispatched_at=None,
    cancel_requested_at=None,
    workflow_id=None,
    provider_batch_id="batch_of_a_test",
    provider_details={},
    progress=Progress(),
    entry_count=0,
    request_bytes=0,
    outcomes={},
    usage=Usage(),
    cost=Cost(billed=None, list_price=None),
    failure_code=None,
    failure_reason=None,
    last_error=None,
)


def finished_batch(  # noqa: PLR0913 - the parts of a batch that tests care about, each with a default
    entries: Sequence[Entry[Any]] = (),
    *,
    provider: str = DEFAULT_PROVIDER,
    model: str = DEFAULT_MODEL,
    endpoint: str | None = None,
    status: BatchStatus | str = BatchStatus.ENDED,
    handler: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    failure_code: str | None = None,
    failure_reason: str | None = None,
) -> Batch:
    """A batch that is over, with the counts and sums of its entries.

    Raises:
        UsageError: the status is not one in which a batch can be over.
    """
    batch_id = new_batch_id()
    return replace(
        _OF_LAST_NIGHT,
        id=batch_id,
        provider=provider,
        model=model,
        endpoint=endpoint or provider_facts(provider).endpoints[0],
        status=_terminal(status),
        handler=handler,
        metadata=dict(metadata or {}),
        workflow_id=f"batch-{batch_id}",
        progress=Progress(total=len(entries), done=len(entries)),
        entry_count=len(entries),
        outcomes=dict(Counter(entry.outcome for entry in entries if entry.outcome is not None)),
        usage=sum((entry.usage for entry in entries), Usage()),
        cost=Cost(
            billed=_total(entry.cost.billed for entry in entries),
            list_price=_total(entry.cost.list_price for entry in entries),
        ),
        failure_code=failure_code,
        failure_reason=failure_reason,
    )


def _terminal(status: BatchStatus | str) -> BatchStatus:
    found = BatchStatus(status)
    if not found.is_terminal:
        raise UsageError(f"No handler runs for a batch that is {found.value!r}: it has to be over.")
    return found


def _total(costs: Iterable[Decimal | None]) -> Decimal | None:
    """The sum. One unknown part makes it unknown, as in the database."""
    known = list(costs)
    return None if None in known else sum((cost for cost in known if cost is not None), Decimal(0))
