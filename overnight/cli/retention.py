"""`overnight prune` and `overnight erase`: forgetting, on purpose."""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import typer

from overnight.cli.database import open_store
from overnight.storage.store import Store


async def pruning(age: timedelta, *, dry_run: bool, as_json: bool) -> None:
    """Prune whatever is older, and say what it was."""
    async with open_store() as store:
        due = await store.retention.due(age)
        pruned = await (_counted(store, due) if dry_run else _pruned(store, due, quiet=as_json))
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "batches": pruned}))
    else:
        verb = "would be" if dry_run else "are"
        typer.echo(f"The texts of {sum(pruned.values()):,} entries in {len(pruned):,} batches {verb} deleted.")


async def _counted(store: Store, due: Sequence[UUID]) -> dict[str, int]:
    return {str(batch_id): (await store.batches.get(batch_id)).entry_count for batch_id in due}


async def _pruned(store: Store, due: Sequence[UUID], *, quiet: bool) -> dict[str, int]:
    pruned: dict[str, int] = {}
    for batch_id in due:
        pruned[str(batch_id)] = count = await store.retention.prune(batch_id)
        if not quiet:
            typer.echo(f"{batch_id}: {count:,} entries")
    return pruned


async def erasing(batch_id: UUID) -> None:
    """Erase one batch.

    Raises:
        BatchOpenError: it is in flight.
    """
    async with open_store() as store:
        await store.retention.erase(batch_id)
    typer.echo(f"Batch {batch_id} is erased. Its counts, costs and dates are kept.")
