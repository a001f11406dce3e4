"""Batches, from the command line: list, show, cancel."""

import json
from typing import Any
from uuid import UUID

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from overnight.batches import Batch, Cost
from overnight.cli.database import open_store

_WIDTH_WITHOUT_TERMINAL = 200


def as_document(batch: Batch) -> dict[str, Any]:
    """A batch as JSON has it: the fields of `overnight.Batch`, money and instants as text, and how long it waited."""
    document: dict[str, Any] = to_jsonable_python(batch)
    return {**document, "waited_seconds": batch.waited.total_seconds() if batch.waited else None}


def money(cost: Cost) -> str:
    """What was billed, and what it would have cost at list price."""
    if cost.billed is None or cost.list_price is None:
        return "unknown"
    return f"${cost.billed:.4f} (list price ${cost.list_price:.4f})"


def outcomes(batch: Batch) -> str:
    """Entries per outcome; the provider's own counts as long as there are none."""
    if batch.outcomes:
        return ", ".join(f"{count} {outcome.value}" for outcome, count in batch.outcomes.items())
    return f"{batch.progress.done} of {batch.entry_count} done" if batch.progress.done else ""


async def listing(*, limit: int, as_json: bool) -> None:
    """Print the newest batches."""
    async with open_store() as store:
        batches = await store.batches.recent(limit=limit)
    if as_json:
        typer.echo(json.dumps([as_document(batch) for batch in batches], indent=2))
    else:
        _console().print(_table(batches) if batches else "There are no batches.")


def _console() -> Console:
    # What is printed holds foreign texts: brackets in them are no markup, and colons no emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    # What is not shown to a person is read by a program, and must not be cut to fit a screen that is not there.
    plain = Console(width=_WIDTH_WITHOUT_TERMINAL, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal else plain


def _table(batches: list[Batch]) -> Table:
    table = Table("batch", "provider", "model", "status", "entries", "outcomes", "created", box=None)
    for batch in batches:
        created = f"{batch.created_at:%Y-%m-%d %H:%M}"
        entries = str(batch.entry_count)
        table.add_row(str(batch.id), batch.provider, batch.model, batch.status, entries, outcomes(batch), created)
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True  # a batch id is there to be copied
    return table


async def showing(batch_id: UUID, *, as_json: bool) -> None:
    """Print one batch."""
    async with open_store() as store:
        batch = await store.batches.get(batch_id)
    if as_json:
        typer.echo(json.dumps(as_document(batch), indent=2))
    else:
        _console().print(_details(batch))


def _details(batch: Batch) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(batch).items():
        if value not in {None, ""}:
            table.add_row(name, str(value))
    return table


def _facts(batch: Batch) -> dict[str, object]:
    return {
        "batch": batch.id,
        "status": batch.status.value,
        "provider": f"{batch.provider} {batch.endpoint}",
        "model": batch.model,
        "provider's id": batch.provider_batch_id,
        "workflow": batch.workflow_id,
        "handler": batch.handler,
        "entries": batch.entry_count,
        "outcomes": outcomes(batch),
        "tokens": f"{batch.usage.input_tokens} in, {batch.usage.output_tokens} out",
        "cost": money(batch.cost),
        "created": batch.created_at,
        "submitted": batch.submitted_at,
        "ended": batch.ended_at,
        "handled": batch.handler_dispatched_at,
        "failure": batch.failure_reason,
        "last error": batch.last_error,
    }


async def canceling(batch_id: UUID, *, as_json: bool) -> None:
    """Ask for a cancel, and print what holds now."""
    from overnight.client import Overnight  # noqa: PLC0415 - only this command needs the Temporal SDK, which is slow

    async with Overnight.connect() as overnight:
        handle = overnight.batch(batch_id)
        await handle.cancel()
        batch = await handle.get()
    if as_json:
        typer.echo(json.dumps(as_document(batch), indent=2))
    else:
        typer.echo(f"Asked for batch {batch_id} to be canceled; `overnight show {batch_id}` shows what comes of it.")


async def ordering(batch_id: UUID, *, retry: bool) -> None:
    """Have a failing handler run again now, or not at all."""
    from overnight.client import Overnight  # noqa: PLC0415 - as above

    async with Overnight.connect() as overnight:
        handle = overnight.batch(batch_id)
        await (handle.retry_handler() if retry else handle.skip_handler())
    done = "is run again now" if retry else "is skipped"
    typer.echo(f"The handler of batch {batch_id} {done}.")
