"""`overnight watch`: how batches come along. People see a table that is redrawn, programs a line of JSON per change."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from overnight.batches import Batch, BatchFilter
from overnight.cli.batches import as_document, outcomes
from overnight.cli.database import open_store
from overnight.cli.ending import DONE, Interrupted, code_of
from overnight.cli.printing import console, print_json_line, say
from overnight.errors import UnknownBatchError
from overnight.storage.store import Store
from overnight.texts import visible

Show = Callable[[Sequence[Batch]], None]

_UNFINISHED = BatchFilter(unfinished=True)
_BAR_WIDTH = 24


async def watching(prefixes: Sequence[str], *, every: float, as_json: bool) -> int:
    """Show the batches, or all unfinished ones, until they are finished; the exit code is that of the worst."""
    try:
        async with open_store() as store:
            ids = [await store.listings.resolve(prefix) for prefix in prefixes]
            with screen(as_json=as_json) as show:
                finished = await follow(store, ids, show, every=every)
    except asyncio.CancelledError:
        raise Interrupted("the batches go on by themselves.") from None
    if not finished and not as_json:
        say("No batch is under way.")
    return max((code_of(batch) for batch in finished), default=DONE)


async def follow(store: Store, ids: Collection[UUID], show: Show, *, every: float) -> list[Batch]:
    """Look at batches again and again until all are finished, and return them.

    Args:
        store: where they are.
        ids: which ones; with none, those that are unfinished now and those that become so meanwhile.
        show: is given them as they are at each look.
        every: seconds between two looks.
    """
    watched = dict.fromkeys(ids)
    while True:
        if not ids:
            watched |= dict.fromkeys(reversed([batch.id for batch in await store.listings.page(_UNFINISHED)]))
        found = await store.listings.of(watched)
        if gone := watched.keys() - {batch.id for batch in found}:
            raise UnknownBatchError(min(gone))
        show(found)
        if all(batch.handler_dispatched_at is not None for batch in found):
            return found
        await asyncio.sleep(every)


@contextmanager
def screen(*, as_json: bool) -> Iterator[Show]:
    """Batches on stdout: drawn for people, as lines for programs."""
    out = console()
    if as_json or not out.is_terminal:
        yield _Lines()
        return
    with _drawn(out) as show:
        yield show


@contextmanager
def beside() -> Iterator[Show]:
    """Batches on stderr, where somebody looks at it; stdout is for what comes of them."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda _: None
        return
    with _drawn(out) as show:
        yield show


@contextmanager
def _drawn(out: Console) -> Iterator[Show]:
    with Live(console=out, refresh_per_second=4) as live:
        yield lambda batches: live.update(progress_table(batches, datetime.now(UTC)))


class _Lines:
    """A line for every change, each with the whole batch."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Any]] = {}

    def __call__(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            document = as_document(batch)
            if self._seen.get(document["id"]) != document:
                self._seen[document["id"]] = document
                print_json_line(document)


def progress_table(batches: Sequence[Batch], now: datetime) -> Table:
    """The batches at one moment."""
    table = Table("batch", "model", "status", "progress", "", "waiting", box=None, padding=(0, 2, 0, 0))
    for batch in batches:
        waiting = shortly((batch.handler_dispatched_at or now) - (batch.submitted_at or batch.created_at))
        note = outcomes(batch) or f"{batch.entry_count} entries"
        names = (str(batch.id), visible(batch.model), batch.status.value)
        table.add_row(*names, _bar(batch), visible(note), waiting)
        if trouble := batch.failure_reason or (batch.trouble_code and f"trouble: {batch.trouble_code}"):
            table.add_row("", visible(trouble))
    table.columns[0].no_wrap = True
    return table


def _bar(batch: Batch) -> ProgressBar:
    """Some providers give no counts before the end: then it only moves."""
    done = sum(batch.outcomes.values()) or batch.progress.done
    silent = done == 0 and batch.submitted_at is not None and not batch.status.is_terminal
    return ProgressBar(total=max(batch.entry_count, 1), completed=done, width=_BAR_WIDTH, pulse=silent)


def shortly(span: timedelta) -> str:
    """A duration in its two largest units."""
    seconds = max(int(span.total_seconds()), 0)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"
