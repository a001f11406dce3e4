"""A batch or campaign to be, from what somebody asked for: checked against the provider's facts, and
nothing is written before.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict, TypeVar, cast
from uuid import UUID

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from overnight.batches import OnAmbiguousSubmit
from overnight.campaign_contracts import CampaignOptions
from overnight.contracts import BatchOptions, BatchSpec, SpecEntry, faults
from overnight.errors import ConfigurationError, EntryError, RequestError, UsageError
from overnight.handlers import batch_handlers, campaign_handlers
from overnight.intake import Intake, Item, RawRequest, check_model, choose_endpoint, room
from overnight.providers import open_provider, provider_facts
from overnight.schedule import PollSchedule
from overnight.settings import Settings
from overnight.storage.batches import NewBatch
from overnight.storage.campaigns import NewCampaign
from overnight.storage.entries import NewEntry, Room
from overnight.tasks import ModelSettings, tasks

OptionsT = TypeVar("OptionsT", bound=BatchOptions)


class _Chosen(TypedDict):
    """What is chosen for a batch and for a campaign alike."""

    provider: str
    model: str
    endpoint: str
    handler: str | None
    handler_task_queue: str | None
    handler_activity: str | None
    metadata: Mapping[str, JsonValue]
    on_ambiguous_submit: OnAmbiguousSubmit
    schedule: PollSchedule


def new_batch(options: BatchOptions, batch_id: UUID, settings: Settings) -> NewBatch:
    """The row of a batch, checked.

    Raises:
        UnknownProviderError: no adapter of this name.
        UnknownModelError: the model cannot be batched, or is not in the price table.
        UnknownHandlerError: no handler of this name is registered here, and none elsewhere is named for it.
        RequestError: the provider has no such endpoint.
        ConfigurationError: the poll schedule makes no sense, or the metadata cannot be stored.
    """
    return NewBatch(id=batch_id, max_cost=options.max_cost, **_chosen(options, settings, batch_handlers))


def checked(kind: type[OptionsT], **options: Any) -> OptionsT:
    """What was asked for in Python.

    Raises:
        UsageError: it makes no sense, with the names of what does not.
    """
    try:
        return kind(**options)
    except ValidationError as error:
        what = kind.__name__.removesuffix("Options").lower()
        raise UsageError(f"A {what} cannot be created like this: {faults(error)}.") from None


async def check_key(provider: str, settings: Settings) -> None:
    """Make sure that there is a key, where this process is to have one.

    Raises:
        MissingKeyError: there is none.
    """
    if not settings.keys_in_worker_only:
        await open_provider(provider, settings).aclose()


def new_campaign(options: CampaignOptions, campaign_id: UUID, settings: Settings) -> NewCampaign:
    """The row of a campaign, checked.

    Raises:
        UsageError: as for a batch.
    """
    return NewCampaign(
        id=campaign_id,
        max_age=options.campaign_max_age,
        rounds=options.rounds,
        retry_invalid=options.retry_invalid,
        max_concurrent_batches=options.max_concurrent_batches,
        max_batch_entries=options.max_batch_entries,
        max_cost=options.max_cost,
        **_chosen(options, settings, campaign_handlers),
    )


def _chosen(options: BatchOptions, settings: Settings, find_handler: Callable[[str], object]) -> _Chosen:
    facts = provider_facts(options.provider)
    check_model(facts, options.model, allow_unknown=options.allow_unknown_model, overrides=settings.prices)
    if options.handler is not None and options.handler_task_queue is None:
        # With a task queue of its own the handler lives in another process, which alone knows its names.
        find_handler(options.handler)
    return _Chosen(
        provider=facts.name,
        model=options.model,
        endpoint=choose_endpoint(facts, options.endpoint),
        handler=options.handler,
        handler_task_queue=options.handler_task_queue,
        handler_activity=options.handler_activity,
        metadata=_storable(options.metadata),
        on_ambiguous_submit=options.on_ambiguous_submit,
        schedule=_schedule(options.poll_waits, options.max_age, settings.schedule),
    )


def _schedule(waits: list[timedelta] | None, max_age: timedelta | None, default: PollSchedule) -> PollSchedule:
    waits = list(default.waits) if waits is None else waits
    try:
        return PollSchedule(waits=tuple(waits), max_age=default.max_age if max_age is None else max_age)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _storable(metadata: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Refuse what Postgres does not take as `jsonb`: NUL characters, lone surrogates, NaN and infinity."""
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        raise ConfigurationError(f"The metadata cannot be stored as JSON: {error}") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise ConfigurationError("The metadata cannot be stored as JSON: it has a NUL character.")
    return metadata


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
        yield intake.entry(item_of(entry, number), entry.custom_id)


def item_of(entry: SpecEntry, number: int) -> Item:
    """What an entry asks, as a Task of the user's or a raw request.

    Raises:
        UnknownTaskError: no Task of this name is registered here.
        EntryError: the fields do not fit the Task.
    """
    if entry.request is not None:
        return RawRequest(body=entry.request)
    assert entry.task is not None
    which = entry.custom_id or f"number {number}"
    try:
        # As the JSON that they came as: a Task may take bytes or dates from JSON in its own way.
        task = tasks.resolve(entry.task).model_validate_json(to_json(entry.fields))
        return task.with_settings(**cast("ModelSettings", entry.settings)) if entry.settings else task
    except ValidationError as error:
        # Names and reasons only: the values are prompts.
        raise EntryError(f"Entry {which}: the fields do not fit task {entry.task!r}: {faults(error)}.") from None
    except RequestError as error:
        raise EntryError(f"Entry {which}: {error}") from None
