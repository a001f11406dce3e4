"""A Task answered now, at the provider's normal endpoint and full price: no batch, no Postgres, no Temporal."""

import asyncio
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from pydantic_core import from_json

from overnight.batches import Cost, Entry
from overnight.costs import UNKNOWN, tariff
from overnight.errors import AmbiguousProviderError, TransientProviderError
from overnight.fees import NO_FEES, with_fees
from overnight.hydrating import hydrated
from overnight.intake import Intake, RawRequest, choose_endpoint
from overnight.providers import open_provider, provider_facts
from overnight.providers.base import EntryLine, Provider, ResultLine, untold_by
from overnight.reading import entry_of
from overnight.settings import Settings
from overnight.storage.entries import NewEntry
from overnight.storage.outputs import StoredEntry
from overnight.tasks import Task

OutputT = TypeVar("OutputT")

TOKEN = "answered"  # noqa: S105 - no secret
"""Stands where a batch's submission token would, in lines that never leave this process."""

RETRY_WAITS = (1.0, 4.0, 16.0)
LONGEST_WAIT = 60.0
"""Seconds. Who asks for an answer now does not want it in an hour."""


@overload
async def run(
    item: Task[OutputT],
    *,
    provider: str,
    model: str,
    endpoint: str | None = None,
    custom_id: str | None = None,
    settings: Settings | None = None,
) -> Entry[OutputT]: ...


@overload
async def run(
    item: RawRequest,
    *,
    provider: str,
    model: str,
    endpoint: str | None = None,
    custom_id: str | None = None,
    settings: Settings | None = None,
) -> Entry[Any]: ...


async def run(  # noqa: PLR0913 - what a batch would say once
    item: Task[Any] | RawRequest,
    *,
    provider: str,
    model: str,
    endpoint: str | None = None,
    custom_id: str | None = None,
    settings: Settings | None = None,
) -> Entry[Any]:
    """Ask one thing, wait for the answer, and get what a batch would have made of it.

    Rate limits and errors of the provider are waited out a few times, `Retry-After` is kept.

    Args:
        item: a Task, or a RawRequest.
        provider: "openai" or "anthropic".
        model: also one that the provider does not take in batches.
        endpoint: by default "/v1/responses" or "/v1/messages".
        custom_id: the entry's; by default the Task's name.
        settings: by default the environment's. Only the provider's key and address are looked at.

    Raises:
        UsageError: of the kind that says what is wrong; nothing was sent.
        TransientProviderError: the provider was asked again and again, and still could not answer.
        PermanentProviderError: the provider refuses the request.
        AmbiguousProviderError: the request was sent and its answer never came. It is not sent again, for it may have
            been answered, and be billed.
    """
    facts = provider_facts(provider)
    endpoint = choose_endpoint(facts, endpoint)
    new = Intake(facts, model=model, endpoint=endpoint).entry(item, custom_id)
    line = EntryLine(custom_id=custom_id or new.label, request=new.request)
    asked_at = datetime.now(UTC)
    settings = settings or Settings.from_environment()
    answer = await _answer(line, provider, endpoint, settings)
    prices = tariff(provider, model, at=asked_at, overrides=settings.prices)
    fees = settings.tool_fees.get(provider, NO_FEES)
    untold = untold_by(facts, from_json(new.request), model=model, endpoint=endpoint)
    result = facts.parse_line(answer, TOKEN).with_untold(untold)
    cost = prices.cost_of(result.usage) if result.is_counted else UNKNOWN
    stored = _stored(line, new, result, with_fees(cost, result.provider_calls, fees), answer)
    return entry_of(await hydrated(stored, facts, endpoint))


def _stored(line: EntryLine, new: NewEntry, result: ResultLine, cost: Cost, answer: bytes) -> StoredEntry:
    """What ingestion would have stored, at the price of an answer outside batches."""
    return StoredEntry(
        position=1,
        custom_id=line.custom_id,
        task=new.task,
        fields=new.fields,
        outcome=result.outcome,
        error_code=result.error_code,
        reason=result.reason,
        usage=result.usage,
        cost=Cost(billed=cost.list_price, list_price=cost.list_price),
        line=answer.decode(),
        output=None,
    )


async def _answer(line: EntryLine, provider: str, endpoint: str, settings: Settings) -> bytes:
    opened = open_provider(provider, settings)
    try:
        return await _insistent(opened, line, endpoint)
    except AmbiguousProviderError as error:
        raise AmbiguousProviderError(
            error.provider,
            error.operation,
            f"{error.message}; the request was sent, so it may have been answered and be billed. To run it again may "
            f"be to pay for it twice",
            status=error.status,
            code=error.code,
        ) from None
    finally:
        await opened.aclose()


async def _insistent(provider: Provider, line: EntryLine, endpoint: str) -> bytes:
    for wait in RETRY_WAITS:
        try:
            return await provider.answer(line, endpoint=endpoint, token=TOKEN)
        except TransientProviderError as error:
            seconds = wait if error.retry_after is None else error.retry_after.total_seconds()
            if seconds > LONGEST_WAIT:
                raise
        await asyncio.sleep(seconds)
    return await provider.answer(line, endpoint=endpoint, token=TOKEN)
