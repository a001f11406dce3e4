"""Working on one thing while the next one is being fetched."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def read_ahead(source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The items of `source`, each of which is fetched while the consumer is at work on the one before it.

    One item is held, no more. Errors come when their item would have come. Whoever stops early closes this generator,
    and with it a `source` that can be closed; a fetch that is under way is cancelled first.
    """
    upcoming = _fetching(source)
    try:
        while (items := await upcoming) is not None:
            upcoming = _fetching(source)
            yield items[0]
    finally:
        upcoming.cancel()
        # Its error, if it had one, is on its way to the consumer, or nobody's any more.
        await asyncio.gather(upcoming, return_exceptions=True)
        if isinstance(source, AsyncGenerator):
            await source.aclose()


def _fetching(source: AsyncIterator[T]) -> "asyncio.Task[tuple[T] | None]":
    async def fetch() -> tuple[T] | None:
        async for item in source:
            return (item,)
        return None

    return asyncio.create_task(fetch())
