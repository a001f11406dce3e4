import asyncio
from collections.abc import AsyncGenerator

import pytest

from overnight.ahead import read_ahead


class Source:
    """Counts what was asked of it, and notices when it is closed."""

    def __init__(self, items: int, error: Exception | None = None) -> None:
        self.items, self.error, self.fetched, self.closed = items, error, 0, False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.items):
                self.fetched += 1
                yield number
                await asyncio.sleep(0)
            if self.error:
                raise self.error
        finally:
            self.closed = True


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_items_come_in_order() -> None:
    source = Source(5)
    assert [number async for number in read_ahead(source.run())] == [0, 1, 2, 3, 4]
    assert source.closed


async def test_the_next_item_is_fetched_meanwhile_and_no_other() -> None:
    source = Source(5)
    items = read_ahead(source.run())
    assert await anext(items) == 0
    await settle()
    assert source.fetched == 2
    await items.aclose()


async def test_an_error_comes_behind_the_items_that_came_before_it() -> None:
    items = read_ahead(Source(2, ValueError("broken")).run())
    seen = [await anext(items)]
    await settle()
    seen.append(await anext(items))
    await settle()
    with pytest.raises(ValueError, match="broken"):
        await anext(items)
    assert seen == [0, 1]


async def test_who_stops_early_closes_the_source_and_hears_no_late_error() -> None:
    source = Source(1, ValueError("nobody hears this"))
    items = read_ahead(source.run())
    assert await anext(items) == 0
    await settle()
    await items.aclose()
    assert source.closed


async def test_a_cancelled_consumer_cancels_the_fetch_under_way() -> None:
    stopped = asyncio.Event()

    async def never() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def consume() -> None:
        items = read_ahead(never())
        try:
            async for _ in items:
                pass
        finally:
            await items.aclose()

    consumer = asyncio.create_task(consume())
    await settle()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert stopped.is_set()
