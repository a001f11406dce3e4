"""`overnight estimate` and `overnight submit --dry-run`: what a file or a batch holds, and what it will cost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic_core import to_jsonable_python

from overnight.batches import Batch, Cost
from overnight.cli.batches import facts_table
from overnight.cli.database import open_store
from overnight.cli.input import InputFile
from overnight.cli.printing import console, print_json
from overnight.errors import CostLimitError
from overnight.estimates import Estimate, estimate, estimate_requests
from overnight.intake import room
from overnight.providers import provider_facts
from overnight.settings import Settings
from overnight.storage.batches import NewBatch
from overnight.storage.entries import Filling
from overnight.storage.store import Store
from overnight.texts import visible


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """What was looked at, and what was found."""

    source: str
    batch: Batch | NewBatch
    entries: int
    request_bytes: int
    estimate: Estimate


async def estimating_batch(batch_id: str, *, as_json: bool) -> None:
    """Print what a batch will cost."""
    async with open_store() as store:
        batch = await store.batches.get(await store.listings.resolve(batch_id))
        found = await estimate(store, batch, Settings.from_environment().prices)
    size = {"entries": batch.entry_count, "request_bytes": batch.request_bytes}
    _print(Estimated(source=f"batch {batch.id}", batch=batch, estimate=found, **size), as_json=as_json)


async def estimating_file(file: InputFile, new: NewBatch, *, as_json: bool) -> None:
    """Check a whole file as a submit would, print what it will cost, and write nothing.

    Raises:
        CostLimitError: it could cost more than its `max_cost`.
    """
    filling = Filling(room(provider_facts(new.provider)), entry_count=0, request_bytes=0, input_count=0)

    async def requests() -> AsyncIterator[tuple[str | None, str]]:
        async for entry in file.entries(new):
            filling.row(new.id, entry)
            yield entry.task, entry.request

    async with _past() as store:
        found = await estimate_requests(store, new, requests(), Settings.from_environment().prices)
    size = {"entries": filling.entry_count, "request_bytes": filling.request_bytes}
    _print(Estimated(source=file.name, batch=new, estimate=found, **size), as_json=as_json)
    _check(file, new, found)


@asynccontextmanager
async def _past() -> AsyncIterator[Store | None]:
    """Earlier batches make an estimate better, and are no condition for it."""
    if Settings.from_environment().database_url is None:
        yield None
        return
    async with open_store() as store:
        yield store


def _check(file: InputFile, new: NewBatch, found: Estimate) -> None:
    at_most = found.cost_at_most.billed
    if new.max_cost is not None and (at_most is None or at_most > new.max_cost):
        raise CostLimitError(file.name, new.max_cost, at_most, found.unknown)


def _print(found: Estimated, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(found))
        return
    table = facts_table()
    for name, value in _facts(found).items():
        table.add_row(name, visible(value))
    console().print(table)


def _document(found: Estimated) -> dict[str, Any]:
    return {
        "source": found.source,
        "provider": found.batch.provider,
        "model": found.batch.model,
        "endpoint": found.batch.endpoint,
        "entries": found.entries,
        "request_bytes": found.request_bytes,
        "estimate": to_jsonable_python(found.estimate),
    }


def _facts(found: Estimated) -> dict[str, str]:
    estimate = found.estimate
    return {
        "input": found.source,
        "model": f"{found.batch.model}, {found.batch.provider} {found.batch.endpoint}",
        "entries": f"{found.entries:,}, {found.request_bytes:,} bytes",
        "input tokens": f"{estimate.input_tokens:,}, {_at_most(estimate.input_tokens_at_most)}",
        "output tokens": f"{_number(estimate.output_tokens)}, {_at_most(estimate.output_tokens_at_most)}",
        "cost": f"{rounded_up(estimate.cost)}, prompts alone {rounded_up(estimate.input_cost)}",
        "cost at most": rounded_up(estimate.cost_at_most),
        "how": "\n".join(estimate.how),
        "not known": "\n".join(estimate.unknown) or "nothing is left out",
    }


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _at_most(value: int | None) -> str:
    return "without a known limit" if value is None else f"at most {value:,}"


def rounded_up(cost: Cost) -> str:
    """To a hundredth of a cent, and never down: an estimate must not sound cheaper than it is."""
    if cost.billed is None:
        return "unknown"
    return f"${cost.billed.quantize(Decimal('0.0001'), rounding='ROUND_UP'):,}"
