"""Signs of life during long steps, so that the work of a dead worker is given to another one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from temporalio import activity

# A quarter of the heartbeat timeout in workflows/options.py: three beats may get lost.
_INTERVAL = 15.0


@asynccontextmanager
async def heartbeating(progress: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
    """Beat in the background, with what `progress` says at the time, while the block runs.

    The block is cancelled from outside when a beat learns that the activity is.
    """
    task = asyncio.create_task(_beat(progress))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _beat(progress: Callable[[], object]) -> None:
    while True:
        activity.heartbeat(progress())
        await asyncio.sleep(_INTERVAL)
