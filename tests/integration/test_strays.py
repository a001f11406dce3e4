from itertools import pairwise
from uuid import UUID

import pytest

from overnight.providers.base import ResultPosition
from overnight.storage.results import Stray
from overnight.storage.store import Store
from overnight.storage.strays import StrayResult
from tests.integration.rows import block, over


async def read(store: Store, batch_id: UUID, after: StrayResult | None = None) -> list[StrayResult]:
    return [stray async for page in store.strays.pages(batch_id, after=after.place if after else ()) for stray in page]


async def stray(store: Store, batch_id: UUID, *lines: bytes, before: int = 0) -> int:
    strays = [Stray(number=n, kind="unknown", custom_id=f"x-{n}", line=line) for n, line in enumerate(lines)]
    position = ResultPosition(source="output" if before else "", offset=before)
    await store.results.write(batch_id, block([], before=position, to=before + 10, strays=strays))
    return before + 10


async def test_stray_lines_are_read_in_the_order_in_which_they_came(store: Store) -> None:
    batch_id = await over(store)
    end = await stray(store, batch_id, b"one", b"\xfftwo")
    await stray(store, batch_id, b"three", before=end)
    found = await read(store, batch_id)
    assert [each.line for each in found] == [b"one", b"\xfftwo", b"three"]
    assert [(each.kind, each.custom_id, each.size) for each in found[:2]] == [
        ("unknown", "x-0", 3),
        ("unknown", "x-1", 4),
    ]
    assert all(one.received_at <= other.received_at for one, other in pairwise(found))


async def test_reading_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overnight.storage.strays._PAGE", 1)
    batch_id = await over(store)
    end = await stray(store, batch_id, b"one", b"two")
    seen = await read(store, batch_id)
    assert [each.line for each in seen] == [b"one", b"two"]
    assert await read(store, batch_id, seen[-1]) == []
    await stray(store, batch_id, b"three", before=end)
    assert [each.line for each in await read(store, batch_id, seen[-1])] == [b"three"]


async def test_only_the_beginning_of_a_long_line_is_read(store: Store) -> None:
    batch_id = await over(store)
    await stray(store, batch_id, b"x" * 1_000_000)
    (found,) = await read(store, batch_id)
    assert (found.size, found.line) == (1_000_000, b"x" * 2_000)


async def test_the_stray_lines_of_other_batches_are_left_out(store: Store) -> None:
    await stray(store, await over(store), b"one")
    assert await read(store, await over(store)) == []
