"""Values and stand-ins for the commands."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest

from overnight.batches import Batch, BatchFilter, BatchStatus, Cost, Outcome, Progress, Usage
from overnight.cli import batches as commands
from overnight.errors import UnknownBatchError
from overnight.schedule import PollSchedule

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
BATCH = Batch(
    id=UUID("01a201c2-3cab-730e-8aad-102fd31e8596"),
    provider="openai",
    model="gpt-5.4-mini",
    endpoint="/v1/responses",
    status=BatchStatus.ENDED,
    handler="Save",
    handler_task_queue=None,
    metadata={"source": "test"},
    schedule=PollSchedule(),
    created_at=NOW - timedelta(minutes=3),
    sealed_at=NOW - timedelta(minutes=2),
    submitted_at=NOW - timedelta(minutes=2),
    ended_at=NOW - timedelta(minutes=1),
    ingested_at=NOW,
    hydrated_at=NOW,
    handler_dispatched_at=NOW,
    cancel_requested_at=None,
    workflow_id="batch-01a201c2-3cab-730e-8aad-102fd31e8596",
    provider_batch_id="batch_abc",
    provider_details={},
    progress=Progress(total=3, done=2, failed=1),
    entry_count=3,
    request_bytes=1200,
    outcomes={Outcome.SUCCEEDED: 2, Outcome.ERRORED: 1},
    usage=Usage(input_tokens=100, output_tokens=20),
    cost=Cost(billed=Decimal("0.001"), list_price=Decimal("0.002")),
    failure_code=None,
    failure_reason=None,
    last_error=None,
)
OPEN_BATCH = replace(
    BATCH,
    id=UUID("01a201c2-3dcf-77ea-b196-b076e7cadb11"),
    status=BatchStatus.IN_PROGRESS,
    ended_at=None,
    ingested_at=None,
    hydrated_at=None,
    handler_dispatched_at=None,
    outcomes={},
)


class FakeBatches:
    """The two batches above, as a store has them."""

    async def get(self, batch_id: UUID) -> Batch:
        for batch in (OPEN_BATCH, BATCH):
            if batch.id == batch_id:
                return batch
        raise UnknownBatchError(batch_id)


class FakeListings:
    """The same two, listed."""

    def __init__(self) -> None:
        self.wanted: list[BatchFilter] = []

    async def page(
        self, wanted: BatchFilter, *, limit: int | None = None, before: UUID | None = None
    ) -> Sequence[Batch]:
        self.wanted.append(wanted)
        return [batch for batch in (OPEN_BATCH, BATCH) if before is None or batch.id < before][:limit]

    async def resolve(self, prefix: str) -> UUID:
        found = [batch.id for batch in (OPEN_BATCH, BATCH) if str(batch.id).startswith(prefix)]
        if not found:
            raise UnknownBatchError(prefix)
        return found[0]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Commands read a store that holds two batches."""
    fake = SimpleNamespace(batches=FakeBatches(), listings=FakeListings())

    @asynccontextmanager
    async def open_store() -> AsyncIterator[SimpleNamespace]:
        yield fake

    monkeypatch.setattr(commands, "open_store", open_store)
    return fake


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the extra `embedded` are not installed."""

    def find_spec(name: str) -> Callable[[], None] | None:
        return None

    monkeypatch.setattr("overnight.cli.extras.find_spec", find_spec)
