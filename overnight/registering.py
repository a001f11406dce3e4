"""A batch to be, from what somebody asked for: checked against the provider's facts before anything is written."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError

from overnight.contracts import BatchOptions, BatchSpec, SpecEntry
from overnight.errors import EntryError
from overnight.handlers import handlers
from overnight.intake import Intake, Item, RawRequest, check_model, choose_endpoint, room
from overnight.providers import provider_facts
from overnight.schedule import PollSchedule
from overnight.settings import Settings
from overnight.storage.batches import NewBatch
from overnight.storage.entries import NewEntry, Room
from overnight.tasks import tasks


def new_batch(options: BatchOptions, batch_id: UUID, settings: Settings) -> NewBatch:
    """The row of a batch, checked.

    Raises:
        UnknownProviderError: no adapter of this name.
        UnknownModelError: the model cannot be batched, or is not in the price table.
        UnknownHandlerError: no handler of this name is registered here, and none elsewhere is named for it.
        RequestError: the provider has no such endpoint.
    """
    facts = provider_facts(options.provider)
    check_model(facts, options.model, allow_unknown=options.allow_unknown_model)
    if options.handler is not None and options.handler_task_queue is None:
        # With a task queue of its own the handler lives in another process, which alone knows its names.
        handlers.resolve(options.handler)
    return NewBatch(
        id=batch_id,
        provider=facts.name,
        model=options.model,
        endpoint=choose_endpoint(facts, options.endpoint),
        handler=options.handler,
        handler_task_queue=options.handler_task_queue,
        metadata=options.metadata,
        schedule=_schedule(options.poll_waits, options.max_age, settings.schedule),
    )


def _schedule(waits: list[timedelta] | None, max_age: timedelta | None, default: PollSchedule) -> PollSchedule:
    return PollSchedule(waits=tuple(waits or default.waits), max_age=max_age or default.max_age)


def registration(spec: BatchSpec, batch_id: UUID, settings: Settings) -> tuple[NewBatch, AsyncIterator[NewEntry], Room]:
    """A whole batch from an inline spec.

    Raises:
        UsageError: of any kind; the entries raise theirs when they are iterated.
    """
    batch = new_batch(spec, batch_id, settings)
    facts = provider_facts(batch.provider)
    intake = Intake(facts, model=batch.model, endpoint=batch.endpoint)
    return batch, _entries(spec, intake), room(facts)


async def _entries(spec: BatchSpec, intake: Intake) -> AsyncIterator[NewEntry]:
    for number, entry in enumerate(spec.entries, start=1):
        yield intake.entry(_item(entry, number), entry.custom_id)


def _item(entry: SpecEntry, number: int) -> Item:
    if entry.request is not None:
        return RawRequest(body=entry.request)
    assert entry.task is not None
    try:
        return tasks.resolve(entry.task).model_validate(entry.fields)
    except ValidationError as error:
        # Names and reasons only: the values are prompts.
        faults = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        which = entry.custom_id or f"number {number}"
        raise EntryError(f"Entry {which}: the fields do not fit task {entry.task!r}: {'; '.join(faults)}.") from None
