"""Short ways to campaigns, for tests of the storage."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from overnight.batches import BatchStatus, OnAmbiguousSubmit, Outcome
from overnight.ids import new_batch_id
from overnight.planning import Share
from overnight.schedule import PollSchedule
from overnight.storage.campaigns import NewCampaign
from overnight.storage.filling import FurtherEntry
from overnight.storage.rounds import Candidate, WorthAnotherTry
from overnight.storage.store import Store
from tests.integration.rows import block, report, result, some

SHARE = Share(max_entries=4, max_bytes=1_000, frame_bytes=10)
WANTED = WorthAnotherTry(codes={"http_500"}, invalid=True)


def new_campaign_row(**more: Any) -> NewCampaign:
    known: dict[str, Any] = {
        "id": new_batch_id(),
        "provider": "openai",
        "model": "gpt-4o-mini",
        "endpoint": "/v1/responses",
        "handler": None,
        "handler_task_queue": None,
        "metadata": {},
        "schedule": PollSchedule(),
        "max_age": None,
        "on_ambiguous_submit": OnAmbiguousSubmit.WAIT,
        "rounds": 3,
        "retry_invalid": True,
        "max_concurrent_batches": 2,
        "max_batch_entries": None,
    }
    return NewCampaign(**(known | more))


async def new_campaign(store: Store, **more: Any) -> UUID:
    new = new_campaign_row(**more)
    await store.campaigns.create(new)
    return new.id


async def filled(store: Store, count: int, share: Share = SHARE, **more: Any) -> UUID:
    campaign_id = await new_campaign(store, **more)
    await store.filling.add(campaign_id, some(count), share)
    return campaign_id


async def finish(store: Store, batch_id: UUID, outcomes: dict[int, tuple[Outcome, str | None]]) -> None:
    """Bring a batch to its end, with these outcomes by position; all others succeed."""
    if (campaign_id := (await store.batches.get(batch_id)).campaign_id) is not None:
        await store.campaigns.seal(campaign_id)
    await store.batches.claim(batch_id, f"batch-{batch_id}")
    await store.submissions.current(batch_id)
    await store.submissions.record_intent(batch_id, None)
    ended = report(BatchStatus.ENDED, provider_batch_id=f"provider-{batch_id}")
    await store.submissions.accept(batch_id, ended)
    count = (await store.batches.get(batch_id)).entry_count
    lines = []
    for position in range(1, count + 1):
        outcome, code = outcomes.get(position, (Outcome.SUCCEEDED, None))
        if outcome is not Outcome.MISSING:
            lines.append(result(position, outcome=outcome, error_code=code))
    await store.results.write(batch_id, block(lines, to=1))
    await store.results.finish(batch_id, price_version=None)
    await store.outputs.finish(batch_id)
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()


async def again(candidates: AsyncIterator[Candidate]) -> AsyncIterator[FurtherEntry]:
    async for candidate in candidates:
        yield FurtherEntry(
            custom_id=candidate.custom_id,
            label="",
            task=candidate.task,
            fields=candidate.fields,
            request=candidate.request,
            earlier_batch_id=candidate.batch_id,
            earlier_position=candidate.position,
        )


async def plan(store: Store, campaign_id: UUID, after: int, against: str | None = None) -> tuple[int, int]:
    candidates = store.rounds.candidates(campaign_id, after, WANTED)
    planned = await store.rounds.plan(campaign_id, after, again(candidates), SHARE, objection=lambda: against)
    return planned.batches, planned.entries
