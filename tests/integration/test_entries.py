import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.errors import BatchClosedError, BatchTooLargeError, DuplicateCustomIdError, UnknownBatchError
from overnight.ids import new_batch_id
from overnight.storage.entries import NewEntry
from overnight.storage.store import Store
from tests.integration.rows import ROOM, all_rows, each, filled, new_batch, new_entry, positions, room, some


async def lines(store: Store, batch_id: Any) -> list[tuple[str, str]]:
    return [(line.custom_id, line.request) async for page in store.entries.pages(batch_id) for line in page]


async def nothing_was_added(store: Store, batch_id: Any) -> bool:
    batch = await store.batches.get(batch_id)
    return (batch.entry_count, batch.request_bytes, await lines(store, batch_id)) == (0, 0, [])


async def test_inputs_are_counted_over_all_calls(store: Store) -> None:
    batch_id = await filled(store, 2)
    await store.entries.add(batch_id, each([new_entry(inputs=6)]), room(max_inputs=8))
    with pytest.raises(BatchTooLargeError, match="at most 8 inputs"):
        await store.entries.add(batch_id, each([new_entry()]), room(max_inputs=8))
    batch = await store.batches.get(batch_id)
    assert (batch.entry_count, batch.input_count) == (3, 8)


async def test_entries_are_read_in_the_order_of_adding(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    added = await store.entries.add(batch.id, each([new_entry("z"), new_entry("a", request='{"q":"é"}')]), ROOM)
    more = await store.entries.add(batch.id, each([new_entry("m")]), ROOM)
    assert (added, more) == (2, 1)
    assert await lines(store, batch.id) == [("z", '{"q":1}'), ("a", '{"q":"é"}'), ("m", '{"q":1}')]
    after = await store.batches.get(batch.id)
    assert after.entry_count == 3
    assert after.request_bytes == len('zam{"q":1}{"q":"é"}{"q":1}'.encode())
    assert await positions(store, batch.id) == {"z": 1, "a": 2, "m": 3}


async def test_a_default_custom_id_is_the_label_and_the_position(store: Store) -> None:
    batch_id = await filled(store, 2)
    await store.entries.add(batch_id, each([new_entry(label="request"), new_entry("own")]), ROOM)
    assert list(await positions(store, batch_id)) == ["Ask-1", "Ask-2", "request-3", "own"]


async def test_one_duplicate_keeps_all_entries_of_the_call_out_and_is_named(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    with pytest.raises(DuplicateCustomIdError, match="'twice-1_A'"):
        await store.entries.add(batch.id, each([new_entry("twice-1_A"), new_entry(), new_entry("twice-1_A")]), ROOM)
    assert await nothing_was_added(store, batch.id)


async def test_a_custom_id_of_an_earlier_call_is_a_duplicate_too(store: Store) -> None:
    batch_id = await filled(store, 2)
    with pytest.raises(DuplicateCustomIdError, match="'Ask-2'"):
        await store.entries.add(batch_id, each([new_entry("b"), new_entry("Ask-2")]), ROOM)
    assert await positions(store, batch_id) == {"Ask-1": 1, "Ask-2": 2}


async def test_a_default_id_that_a_user_has_given_away_is_named(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    with pytest.raises(DuplicateCustomIdError, match="'Ask-2'"):
        await store.entries.add(batch.id, each([new_entry("Ask-2"), new_entry()]), ROOM)
    assert await nothing_was_added(store, batch.id)


async def test_two_batches_can_have_the_same_custom_ids(store: Store) -> None:
    one, two = await filled(store), await filled(store)
    assert await positions(store, one) == await positions(store, two)


@pytest.mark.parametrize(
    ("limits", "what"), [({"max_entries": 4}, "at most 4 entries"), ({"max_bytes": 109}, "at most 109 bytes")]
)
async def test_the_entry_that_no_longer_fits_keeps_its_whole_call_out(
    store: Store, limits: dict[str, int], what: str
) -> None:
    batch_id = await filled(store, 2)
    with pytest.raises(BatchTooLargeError, match=what):
        await store.entries.add(batch_id, some(3), room(**limits))
    assert (await store.batches.get(batch_id)).entry_count == 2
    await store.entries.add(batch_id, some(2), room(**limits))
    assert (await store.batches.get(batch_id)).entry_count == 4


async def test_what_a_users_iterable_raises_comes_through_and_nothing_is_added(store: Store) -> None:
    async def breaking() -> AsyncIterator[NewEntry]:
        for _ in range(5000):
            yield new_entry(request=json.dumps("x" * 100))
        raise LookupError("line 5001 of my file")

    batch = await store.batches.create(new_batch())
    with pytest.raises(LookupError, match="line 5001"):
        await store.entries.add(batch.id, breaking(), ROOM)
    assert await nothing_was_added(store, batch.id)
    await store.entries.add(batch.id, some(1), ROOM)


async def test_a_cancelled_add_leaves_nothing_and_no_lock(store: Store) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[NewEntry]:
        while True:
            yield new_entry(request=json.dumps("x" * 10_000))
            begun.set()
            await asyncio.sleep(0)

    batch = await store.batches.create(new_batch())
    for _ in range(25):  # more often than the pool has connections
        begun.clear()
        adding = asyncio.create_task(store.entries.add(batch.id, endless(), room(max_entries=10**9, max_bytes=10**12)))
        await begun.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
    assert await nothing_was_added(store, batch.id)
    assert await store.entries.add(batch.id, some(1), ROOM) == 1


async def test_adds_at_once_take_turns(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    await asyncio.gather(*(store.entries.add(batch.id, some(20), ROOM) for _ in range(8)))
    assert await positions(store, batch.id) == {f"Ask-{number}": number for number in range(1, 161)}
    assert (await store.batches.get(batch.id)).entry_count == 160


async def test_no_entry_is_added_to_a_sealed_batch(store: Store) -> None:
    batch_id = await filled(store)
    await store.batches.seal(batch_id)
    with pytest.raises(BatchClosedError, match=f"add entries to batch {batch_id}"):
        await store.entries.add(batch_id, some(1), ROOM)
    assert (await store.batches.get(batch_id)).entry_count == 3


async def test_a_seal_waits_for_the_add_that_is_under_way(store: Store) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[NewEntry]:
        yield new_entry()
        halfway.set()
        await go_on.wait()
        yield new_entry()

    batch_id = await filled(store, 1)
    adding = asyncio.create_task(store.entries.add(batch_id, slow(), ROOM))
    await halfway.wait()
    sealing = asyncio.create_task(store.batches.seal(batch_id))
    done, _ = await asyncio.wait([sealing], timeout=0.2)
    assert not done
    go_on.set()
    await adding
    batch, first = await sealing
    assert (batch.entry_count, first) == (3, True)


async def test_entries_of_no_batch_are_refused(store: Store) -> None:
    with pytest.raises(UnknownBatchError):
        await store.entries.add(new_batch_id(), some(1), ROOM)


async def test_a_batch_comes_with_its_entries_or_not_at_all(store: Store) -> None:
    new = new_batch()
    with pytest.raises(DuplicateCustomIdError):
        await store.entries.create_filled(new, each([new_entry("a"), new_entry("a")]), ROOM)
    with pytest.raises(UnknownBatchError):
        await store.batches.get(new.id)


async def test_registering_a_batch_again_changes_nothing(store: Store) -> None:
    new = new_batch()
    await store.entries.create_filled(new, some(3), ROOM)
    await store.entries.create_filled(new, some(5), ROOM)
    assert (await store.batches.get(new.id)).entry_count == 3


async def test_registering_a_batch_twice_at_once_makes_it_once(store: Store) -> None:
    new = new_batch()
    await asyncio.gather(*(store.entries.create_filled(new, some(50), ROOM) for _ in range(4)))
    assert (await store.batches.get(new.id)).entry_count == 50
    assert len(await lines(store, new.id)) == 50


async def test_odd_characters_reach_the_table_and_come_back(store: Store, engine: AsyncEngine) -> None:
    odd = "\u2028\x85\N{GRINNING FACE}\\ \t\n\r\\N \\. \"'"
    request, fields = json.dumps(odd, ensure_ascii=False), json.dumps({"t": "\x00\ud800"})
    batch = await store.batches.create(new_batch())
    await store.entries.add(batch.id, each([new_entry("a", request=request, fields=fields)]), ROOM)
    assert await lines(store, batch.id) == [("a", request)]
    assert await all_rows(engine, "select fields::text from overnight.entries") == [(fields,)]


SIZES = [
    [10] * 11_000,
    [3_000_000] * 5,
    [5_000_000, 10, 10, 5_000_000],
    [10] * 4999 + [5_000_000, 10, 10],
    [4 * 1024 * 1024 - 2, 1, 1, 1],
    [],
]


@pytest.mark.parametrize("sizes", SIZES, ids=["tiny", "huge", "huge at both ends", "at the border", "exact", "none"])
async def test_pages_hold_each_entry_once_and_end_in_time(store: Store, sizes: list[int]) -> None:
    batch = await store.batches.create(new_batch())
    await store.entries.add(batch.id, each(new_entry(request=json.dumps("x" * size)) for size in sizes), ROOM)
    pages = [page async for page in store.entries.pages(batch.id)]
    assert [len(line.request) - 2 for page in pages for line in page] == sizes
    assert [line.custom_id for page in pages for line in page] == [f"Ask-{n}" for n in range(1, len(sizes) + 1)]
    for page in pages:
        assert len(page) <= 5000
        assert sum(len(line.request) for line in page[:-1]) <= 4 * 1024 * 1024


async def test_entries_that_are_gone_leave_no_trace_in_the_pages(store: Store, engine: AsyncEngine) -> None:
    batch_id = await filled(store, 11_001)
    async with engine.begin() as connection:
        await connection.execute(text("delete from overnight.entries where position between 2 and 11000"))
    assert [custom_id for custom_id, _ in await lines(store, batch_id)] == ["Ask-1", "Ask-11001"]


async def test_the_task_comes_with_each_request(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    await store.entries.add(batch.id, each([new_entry(), new_entry(task=None, request='{"q":"\\\\ é"}')]), ROOM)
    pages = [list(page) async for page in store.entries.requests(batch.id)]
    assert pages == [[("Ask", '{"q":1}'), (None, '{"q":"\\\\ é"}')]]


async def test_a_reader_that_stops_early_gives_its_connection_back(store: Store) -> None:
    batch_id = await filled(store, 2500)
    for _ in range(25):
        async for page in store.entries.pages(batch_id):
            assert page
            break
    assert len(await lines(store, batch_id)) == 2500


async def test_memory_does_not_grow_with_the_batch(store: Store) -> None:
    """40 MB go in and out in less than half of it; what is measured is a page or two, and what they are made of."""
    batch = await store.batches.create(new_batch())
    text = json.dumps("x" * 100_000)
    tracemalloc.start()
    try:
        await store.entries.add(batch.id, each(new_entry(request=text + " " * (n % 2)) for n in range(400)), ROOM)
        adding = tracemalloc.get_traced_memory()[1]
        async for page in store.entries.pages(batch.id):
            assert page
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert adding < 5_000_000
    assert reading < 20_000_000


async def test_fifty_thousand_entries_stream_in_and_out(store: Store) -> None:
    batch_id = await filled(store, 50_000)
    found = await lines(store, batch_id)
    assert len(found) == 50_000
    assert (found[0][0], found[-1][0]) == ("Ask-1", "Ask-50000")
    assert await store.entries.positions(batch_id, ["Ask-31415", "Ask-0", "Ask-50000"]) == [31_415, None, 50_000]


async def test_custom_ids_are_looked_up_in_their_order_and_in_their_batch_only(store: Store) -> None:
    one, two = await filled(store, 3), await filled(store, 1)
    await store.entries.add(two, each([new_entry("own_id-7")]), ROOM)
    asked = ["Ask-3", "", "Ask-1", "own_id-7", "ask-1", "Ask-3"]
    assert await store.entries.positions(one, asked) == [3, None, 1, None, None, 3]
    assert await store.entries.positions(two, asked) == [None, None, 1, 2, None, None]
    assert await store.entries.positions(two, [""]) == [None]


async def test_ids_of_one_label_and_the_position_are_known_by_their_label(store: Store) -> None:
    plain, mixed, own = await filled(store, 3), await filled(store, 2), await store.batches.create(new_batch())
    await store.entries.add(mixed, each([new_entry(label="request")]), ROOM)
    await store.entries.add(own.id, each([new_entry("own-1"), new_entry("own-3")]), ROOM)
    named = await store.batches.create(new_batch())
    await store.entries.add(named.id, each([new_entry("own-1"), new_entry("own-2")]), ROOM)
    ids = (plain, mixed, own.id, named.id, new_batch().id)
    assert [await store.entries.label(batch_id) for batch_id in ids] == ["Ask", None, None, "own", None]
