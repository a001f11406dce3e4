"""Batches, from the command line: list, show, cancel, and what to do with a handler."""

import json
from dataclasses import replace
from typing import Any

from pydantic_core import to_jsonable_python
from rich.table import Table

from overnight.batches import ANY_BATCH, Batch, BatchFilter, Cost
from overnight.cli.database import open_store
from overnight.cli.printing import console, print_json, remark, say
from overnight.texts import visible

_NONE = {True: "There are no batches.", False: "There are no such batches."}


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


def handler_of(batch: Batch) -> str | None:
    """What is run once the batch is over, and on which task queue, if it names one."""
    name = f"activity {batch.handler_activity}" if batch.handler_activity else batch.handler
    return f"{name or 'none'} on task queue {batch.handler_task_queue}" if batch.handler_task_queue else name


def handled(batch: Batch) -> object:
    """When the handler had run, or what it waits for."""
    if batch.handler_dispatched_at is not None or batch.ingested_at is None or batch.handler_task_queue is None:
        return batch.handler_dispatched_at
    return f"not yet; waits for a worker on task queue {batch.handler_task_queue}"


async def listing(wanted: BatchFilter, *, parent: str | None, before: str | None, limit: int, as_json: bool) -> None:
    """Print batches, the newest first."""
    async with open_store() as store:
        if parent is not None:
            wanted = replace(wanted, parent=await store.listings.resolve(parent))
        behind = await store.listings.resolve(before) if before is not None else None
        batches = await store.listings.page(wanted, limit=limit, before=behind)
    if as_json:
        print_json([as_document(batch) for batch in batches])
        return
    console().print(_table(batches) if batches else _NONE[wanted == ANY_BATCH and before is None])
    if len(batches) == limit:
        remark(f"Older ones: overnight list --before {batches[-1].id} (with the same options).")


def _table(batches: list[Batch]) -> Table:
    table = Table("batch", "provider", "model", "status", "entries", "outcomes", "created", box=None)
    for batch in batches:
        created = f"{batch.created_at:%Y-%m-%d %H:%M}"
        entries = str(batch.entry_count)
        texts = (str(batch.id), batch.provider, batch.model, batch.status, entries, outcomes(batch), created)
        table.add_row(*map(visible, texts))
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True  # a batch id is there to be copied
    return table


async def showing(batch_id: str, *, as_json: bool) -> None:
    """Print one batch."""
    async with open_store() as store:
        print_batch(await store.batches.get(await store.listings.resolve(batch_id)), as_json=as_json)


def print_batch(batch: Batch, *, as_json: bool) -> None:
    """Everything that is known of a batch."""
    if as_json:
        print_json(as_document(batch))
    else:
        console().print(_details(batch))


def facts_table() -> Table:
    """Names beside values, which fold where there is no room for them: ids are there to be copied."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _details(batch: Batch) -> Table:
    table = facts_table()
    for name, value in _facts(batch).items():
        if value not in {None, ""}:
            table.add_row(name, visible(str(value)))
    return table


def _facts(batch: Batch) -> dict[str, object]:
    return {
        "batch": batch.id,
        "status": batch.status.value,
        "provider": f"{batch.provider} {batch.endpoint}",
        "model": batch.model,
        "provider's id": batch.provider_batch_id,
        "workflow": batch.workflow_id,
        "handler": handler_of(batch),
        "parent": batch.parent_batch_id,
        "metadata": json.dumps(batch.metadata, ensure_ascii=False) if batch.metadata else None,
        "entries": batch.entry_count,
        "outcomes": outcomes(batch),
        "tokens": f"{batch.usage.input_tokens} in, {batch.usage.output_tokens} out",
        "cost": money(batch.cost),
        "limit": f"${batch.max_cost}" if batch.max_cost is not None else None,
        "created": batch.created_at,
        "submitted": batch.submitted_at,
        "ended": batch.ended_at,
        "handled": handled(batch),
        "failure": batch.failure_reason,
        "trouble": f"{batch.trouble_code}, since {batch.trouble_since}" if batch.trouble_code else None,
        "last error": batch.last_error,
    }


async def canceling(batch_id: str, *, as_json: bool) -> None:
    """Ask for a cancel, and print what holds now."""
    from overnight.client import Overnight  # noqa: PLC0415 - only such commands need the Temporal SDK, which is slow

    async with Overnight.connect() as overnight:
        handle = overnight.batch(await overnight.store.listings.resolve(batch_id))
        await handle.cancel()
        batch = await handle.get()
    if as_json:
        print_json(as_document(batch))
    else:
        say(f"Asked for batch {batch.id} to be canceled; `overnight watch {batch.id}` shows what comes of it.")


async def ordering(batch_id: str, *, retry: bool) -> None:
    """Have a failing handler run again now, or not at all."""
    from overnight.client import Overnight  # noqa: PLC0415 - as above

    async with Overnight.connect() as overnight:
        handle = overnight.batch(await overnight.store.listings.resolve(batch_id))
        await (handle.retry_handler() if retry else handle.skip_handler())
    done = "is run again now" if retry else "is skipped"
    say(f"The handler of batch {handle.id} {done}.")
