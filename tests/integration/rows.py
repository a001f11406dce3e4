"""Short ways to rows, for tests of the storage."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchStatus, Cost, Outcome, Usage
from overnight.ids import new_batch_id
from overnight.providers.base import Limits, ProviderReport, ResultPosition
from overnight.schedule import PollSchedule
from overnight.storage.batches import NewBatch
from overnight.storage.entries import NewEntry, Room
from overnight.storage.result_rows import NewResult
from overnight.storage.results import IngestedBlock, Stray
from overnight.storage.store import Store

ROOM = Room(
    provider="openai",
    limits=Limits(max_entries=100_000, max_bytes=100_000_000, custom_id_pattern="[A-Za-z0-9_-]{1,64}"),
    frame_bytes=10,
)
USAGE = Usage(input_tokens=10, output_tokens=5)
COST = Cost(billed=Decimal("0.000001"), list_price=Decimal("0.000002"))
START = ResultPosition()


def room(**limits: int) -> Room:
    return replace(ROOM, limits=replace(ROOM.limits, **limits))


def new_batch(**more: Any) -> NewBatch:
    known: dict[str, Any] = {
        "id": new_batch_id(),
        "provider": "openai",
        "model": "gpt-4o-mini",
        "endpoint": "/v1/responses",
        "handler": None,
        "handler_task_queue": None,
        "metadata": {"who": "test"},
        "schedule": PollSchedule(waits=(timedelta(seconds=1), timedelta(minutes=2)), max_age=timedelta(hours=26)),
    }
    return NewBatch(**(known | more))


def new_entry(custom_id: str | None = None, **more: Any) -> NewEntry:
    known: dict[str, Any] = {"label": "Ask", "task": "Ask", "fields": "{}", "request": '{"q":1}'}
    return NewEntry(custom_id=custom_id, **(known | more))


async def each(entries: Iterable[NewEntry]) -> AsyncIterator[NewEntry]:
    for entry in entries:
        yield entry


def some(count: int) -> AsyncIterator[NewEntry]:
    return each(new_entry() for _ in range(count))


async def filled(store: Store, count: int = 3, **more: Any) -> UUID:
    """A batch with entries."""
    new = new_batch(**more)
    await store.entries.create_filled(new, some(count), ROOM)
    return new.id


async def accepted(store: Store, count: int = 3, **more: Any) -> UUID:
    """A batch that the provider has."""
    batch_id = await filled(store, count, **more)
    await store.batches.claim(batch_id, f"batch-{batch_id}")
    await store.submissions.current(batch_id)
    await store.submissions.record_intent(batch_id, None)
    await store.submissions.accept(batch_id, said(batch_id))
    return batch_id


async def over(store: Store, count: int = 3, status: BatchStatus = BatchStatus.ENDED, **more: Any) -> UUID:
    """A batch that has come to an end at the provider."""
    batch_id = await accepted(store, count)
    await store.batches.record_report(batch_id, said(batch_id, status, **more))
    return batch_id


def said(batch_id: UUID, status: BatchStatus = BatchStatus.IN_PROGRESS, **more: Any) -> ProviderReport:
    """What the provider says of a batch that it has."""
    return report(status, provider_batch_id=f"provider-{batch_id}", **more)


def report(status: BatchStatus = BatchStatus.IN_PROGRESS, **more: Any) -> ProviderReport:
    from overnight.batches import Progress

    known: dict[str, Any] = {"provider_batch_id": "provider-1", "status_word": "so", "progress": Progress(total=3)}
    return ProviderReport(status=status, **(known | more))


def result(position: int, **more: Any) -> NewResult:
    known: dict[str, Any] = {
        "outcome": Outcome.SUCCEEDED,
        "usage": USAGE,
        "cost": COST,
        "error_code": None,
        "reason": None,
        "line": '{"ok":true}',
    }
    return NewResult(position=position, **(known | more))


def block(
    results: Iterable[NewResult], *, before: ResultPosition = START, to: int, strays: Iterable[Stray] = ()
) -> IngestedBlock:
    after = ResultPosition(source="output", offset=to)
    return IngestedBlock(before=before, after=after, results=list(results), strays=list(strays))


async def all_rows(engine: AsyncEngine, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), parameters)]


async def positions(store: Store, batch_id: UUID) -> dict[str, int]:
    """The position of each custom id of a batch."""
    query = "select custom_id, position from overnight.entries where batch_id = :batch order by position"
    return dict(await all_rows(store._engine, query, batch=batch_id))  # type: ignore[arg-type]
