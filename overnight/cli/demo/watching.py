"""Live progress: a table that is redrawn on a terminal, a line for every change elsewhere."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from overnight.batches import Batch
from overnight.client import BatchHandle
from overnight.contracts import ProgressReport
from overnight.errors import TemporalError

_LOOK_SECONDS = 0.4

Show = Callable[[Sequence["View"]], None]


@dataclass(frozen=True, kw_only=True)
class View:
    """A batch at one moment, as it is shown."""

    name: str
    step: str
    status: str
    polls: int
    done: int
    total: int
    age: timedelta | None
    next_poll: timedelta | None
    error: str | None

    @property
    def counts(self) -> str:
        """How many entries the provider has answered; some tell no counts before the end."""
        return f"{self.done} of {self.total}"

    @property
    def state(self) -> tuple[object, ...]:
        """What makes it worth another line."""
        return self.step, self.status, self.polls, self.done, self.error


def view_of(batch: Batch, progress: ProgressReport | None, now: datetime) -> View:
    """What the database and the workflow say of a batch."""
    next_poll_at = progress.next_poll_at if progress else None
    return View(
        name=f"{batch.provider} {batch.model}",
        step=_step(batch, progress),
        status=batch.status.value,
        polls=progress.polls if progress else 0,
        done=sum(batch.outcomes.values()) or batch.progress.done + batch.progress.failed,
        total=batch.entry_count,
        age=now - batch.submitted_at if batch.submitted_at else None,
        next_poll=max(next_poll_at - now, timedelta(0)) if next_poll_at else None,
        error=progress.last_error if progress else None,
    )


def _step(batch: Batch, progress: ProgressReport | None) -> str:
    if batch.handler_dispatched_at is not None:
        return "done"
    return progress.step if progress else "queued"


async def look(handle: BatchHandle) -> View:
    """Ask the workflow how far it is, and the database what has come of it."""
    try:
        progress = await handle.progress()
    except TemporalError:
        progress = None  # not yet taken up by the worker, or the worker is busy: the next look will tell
    return view_of(await handle.get(), progress, datetime.now(UTC))


async def watch(handles: Sequence[BatchHandle], console: Console, check: Callable[[], None]) -> None:
    """Show the batches until all of them are over and handled.

    Args:
        handles: the batches.
        console: where to show them.
        check: called again and again; raises when going on makes no sense.
    """
    waiting = asyncio.gather(*(handle.wait() for handle in handles))
    try:
        with display(console) as show:
            while not waiting.done():
                check()
                show([await look(handle) for handle in handles])
                await asyncio.wait({waiting}, timeout=_LOOK_SECONDS)
            await waiting
            show([await look(handle) for handle in handles])
    finally:
        waiting.cancel()


@contextmanager
def display(console: Console) -> Iterator[Show]:
    """How views are shown on this console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda views: live.update(_table(views), refresh=True)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[object, ...]] = {}

    def __call__(self, views: Sequence[View]) -> None:
        for view in views:
            if self._seen.get(view.name) != view.state:
                self._seen[view.name] = view.state
                self._console.print(line_of(view), markup=False, soft_wrap=True)


def line_of(view: View) -> str:
    """One line for one moment."""
    words = [f"{view.name:<28}", f"{view.step:<9}", f"{view.status:<12}", f"polls {view.polls:<3}", view.counts]
    if view.age is not None:
        words.append(f"age {_seconds(view.age)}")
    if view.next_poll is not None:
        words.append(f"next poll in {_seconds(view.next_poll)}")
    if view.error:
        words.append(f"last error: {view.error}")
    return "  ".join(words)


def _table(views: Sequence[View]) -> Table:
    table = Table("batch", "step", "status", "polls", "answered", "age", "next poll in", box=None, pad_edge=False)
    for view in views:
        table.add_row(
            view.name,
            view.step,
            view.status,
            str(view.polls),
            view.counts,
            _seconds(view.age),
            _seconds(view.next_poll),
        )
        if view.error:
            table.add_row("", "", Text(view.error, style="red"))
    return table


def _seconds(duration: timedelta | None) -> str:
    return "" if duration is None else f"{timedelta(seconds=round(duration.total_seconds()))}"
