"""Temporal's own cancellation, which orphans nothing here."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


async def cancellation_as_signal(life: Coroutine[object, object, T], cancel: Callable[[], None]) -> T:
    """Run a life to its end, whatever is canceled from outside: a cancellation only means what the signal means."""
    task = asyncio.create_task(life)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
            cancel()
