"""Postgres and Temporal together, and an orderly end however the end comes."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from overnight.embedded.postgres import EmbeddedPostgres
from overnight.embedded.process import finish
from overnight.embedded.temporal import EmbeddedTemporal


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running servers."""

    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal


@asynccontextmanager
async def running_stack(  # noqa: PLR0913 - keyword-only settings, each with a default
    *,
    folder: Path | None = None,
    durable: bool = True,
    postgres_port: int | None = None,
    temporal_port: int | None = None,
    ui_port: int | None = None,
    search_attributes: Mapping[str, str] | None = None,
    dynamic_config: Mapping[str, object] | None = None,
    retention: timedelta | None = None,
) -> AsyncIterator[Stack]:
    """Start both at once, and stop both at the end: Temporal first, so that Postgres outlives whoever writes to it.

    An error, a cancellation or Ctrl-C, at any moment and during the start as well, stops what is up. To have SIGTERM
    count as such an interruption, wrap everything in `stop_on_signals`. And if this process is killed outright, the
    servers end by themselves.

    Args:
        folder: Data and logs of both, kept; None for nothing kept.
        durable: As for `EmbeddedPostgres`.
        postgres_port: This and the other ports: None for a free one.
        temporal_port: Of gRPC.
        ui_port: Of Temporal's web UI.
        search_attributes: As for `EmbeddedTemporal`, as are the other two.
        dynamic_config: "
        retention: "

    Raises:
        EmbeddedServerError: One of them did not start; the other is stopped.
    """
    stack = Stack(
        postgres=EmbeddedPostgres(
            data_dir=None if folder is None else folder / "postgres", port=postgres_port, durable=durable
        ),
        temporal=EmbeddedTemporal(
            db_file=None if folder is None else folder / "temporal" / "temporal.db",
            port=temporal_port,
            ui_port=ui_port,
            search_attributes=search_attributes,
            dynamic_config=dynamic_config,
            retention=retention,
        ),
    )
    try:
        await _start_both(stack)
        yield stack
    finally:
        await finish(_stop_both(stack))


async def _start_both(stack: Stack) -> None:
    try:
        async with asyncio.TaskGroup() as starts:
            starts.create_task(stack.postgres.start())
            starts.create_task(stack.temporal.start())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _stop_both(stack: Stack) -> None:
    try:
        await stack.temporal.stop()
    finally:
        await stack.postgres.stop()


@contextmanager
def stop_on_signals(*signals: signal.Signals) -> Iterator[None]:
    """Make signals (SIGTERM and SIGHUP unless named) end the block as Ctrl-C ends an `asyncio.run`: by cancellation.

    When the block has unwound, SystemExit(128 + signal number) follows. Ctrl-C itself needs no help: asyncio cancels
    the main task on it. Enter it in the main thread, from the task that shall be canceled, around everything that
    needs an orderly end.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def interrupt(signum: int) -> None:
        received.append(signum)
        task.cancel()

    watched = signals or (signal.SIGTERM, signal.SIGHUP)
    for signum in watched:
        loop.add_signal_handler(signum, interrupt, signum)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
    finally:
        for signum in watched:
            loop.remove_signal_handler(signum)
