import asyncio
import tracemalloc
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import Outcome
from overnight.storage.answers import Answer, Verdict
from overnight.storage.outputs import HydrateConflictError, StoredEntry
from overnight.storage.store import Store
from tests.integration.rows import ROOM, all_rows, block, each, new_batch, new_entry, over, report, result


async def ingested(store: Store, count: int = 4, *, failed: tuple[int, ...] = ()) -> UUID:
    batch_id = await over(store, count)
    lines = [
        result(number, outcome=Outcome.ERRORED if number in failed else Outcome.SUCCEEDED)
        for number in range(1, count + 1)
    ]
    await store.results.write(batch_id, block(lines, to=10))
    await store.results.finish(batch_id, price_version="v")
    return batch_id


async def stored(store: Store, batch_id: UUID, **more: object) -> list[StoredEntry]:
    return [entry async for page in store.outputs.pages(batch_id, **more) for entry in page]  # type: ignore[arg-type]


async def test_verdicts_become_outputs_and_outcomes(store: Store) -> None:
    batch_id = await ingested(store)
    odd = '{"t":"\\u0000\u2028\N{GRINNING FACE}\\\\ \\n"}'
    verdicts = [Verdict(position=1, output=odd), Verdict(position=2, error_code="refused", reason="no")]
    await store.outputs.write(batch_id, verdicts, before=0, after=2)
    assert await store.outputs.hydrated_to(batch_id) == 2
    first, second, third, _ = await stored(store, batch_id)
    assert (first.output, first.outcome) == (odd, Outcome.SUCCEEDED)
    assert (second.output, second.outcome) == (None, Outcome.INVALID)
    assert (second.error_code, second.reason) == ("refused", "no")
    assert (third.output, third.outcome) == (None, Outcome.SUCCEEDED)


async def test_verdicts_that_somebody_else_has_written_are_refused_and_leave_nothing(store: Store) -> None:
    batch_id = await ingested(store)
    await store.outputs.write(batch_id, [Verdict(position=1, output="1")], before=0, after=1)
    late = [Verdict(position=2, output="2"), Verdict(position=3, error_code="x", reason="y")]
    with pytest.raises(HydrateConflictError, match=str(batch_id)):
        await store.outputs.write(batch_id, late, before=0, after=3)
    assert [entry.output for entry in await stored(store, batch_id)] == ["1", None, None, None]
    assert {entry.outcome for entry in await stored(store, batch_id)} == {Outcome.SUCCEEDED}


async def written_to(engine: AsyncEngine) -> str:
    ((place,),) = await all_rows(engine, "select pg_current_wal_insert_lsn()::text")
    return str(place)


async def is_on_disk(engine: AsyncEngine, place: str, comparison: str) -> bool:
    query = f"select pg_current_wal_flush_lsn() {comparison} cast(:place as pg_lsn)"
    ((found,),) = await all_rows(engine, query, place=place)
    return bool(found)


async def test_a_page_with_tools_that_have_run_waits_for_the_disk(store: Store, engine: AsyncEngine) -> None:
    batch_id = await ingested(store)
    before = await written_to(engine)
    await store.outputs.write(batch_id, [Verdict(position=1, output="1", tool_calls="[]")], before=0, after=1)
    assert await is_on_disk(engine, before, ">")


async def test_a_flush_waits_for_the_disk_and_refuses_to_speak_for_verdicts_that_are_gone(
    store: Store, engine: AsyncEngine
) -> None:
    batch_id = await ingested(store)
    await store.outputs.write(batch_id, [Verdict(position=1, output="1")], before=0, after=1)
    written = await written_to(engine)
    await store.outputs.flush(batch_id, 1)
    assert await is_on_disk(engine, written, ">=")
    with pytest.raises(HydrateConflictError, match=str(batch_id)):
        await store.outputs.flush(batch_id, 2)


async def test_of_many_who_hydrate_the_same_page_one_does(store: Store) -> None:
    batch_id = await ingested(store)
    writes = [
        store.outputs.write(batch_id, [Verdict(position=1, output=str(number))], before=0, after=1)
        for number in range(8)
    ]
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(error, HydrateConflictError) for error in found) == 7


async def test_hydration_goes_on_behind_what_is_committed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overnight.storage.answers.PAGE_ENTRIES", 1000)
    batch_id = await ingested(store, 2500, failed=(1100,))
    done: list[int] = []
    for _ in range(2):  # two lives, the first of which ends after a page
        position = await store.outputs.hydrated_to(batch_id)
        async for page in store.outputs.answers(batch_id, after=position):
            verdicts = [Verdict(position=entry.position, output="0") for entry in page]
            await store.outputs.write(batch_id, verdicts, before=position, after=page[-1].position)
            position = page[-1].position
            done += [entry.position for entry in page]
            if len(done) <= 1000:
                break
    assert done == [number for number in range(1, 2501) if number != 1100]


async def test_answers_come_whole_in_pages_that_bytes_bound(store: Store) -> None:
    new = new_batch()
    coming = [
        new_entry(task=None if number == 4 else "Ask", fields=None if number == 2 else "{}") for number in range(7)
    ]
    await store.entries.create_filled(new, each(coming), ROOM)
    await store.batches.claim(new.id, f"batch-{new.id}")
    lines = [result(number, line=str(number) * 2_500_000) for number in range(1, 7)]
    await store.results.write(new.id, block([*lines, result(7, outcome=Outcome.ERRORED)], to=10))
    pages = [page async for page in store.outputs.answers(new.id, after=1)]
    assert [[answer.position for answer in page] for page in pages] == [[2, 3], [4, 6]]
    second, third = pages[0]
    assert second == Answer(position=2, custom_id="Ask-2", task="Ask", fields="{}", line="2" * 2_500_000)
    assert third.fields is None


async def test_the_end_of_hydration_counts_the_final_outcomes_once(store: Store) -> None:
    batch_id = await ingested(store, 4, failed=(4,))
    verdicts = [Verdict(position=1, output="1"), Verdict(position=2, error_code="blank", reason="no")]
    await store.outputs.write(batch_id, verdicts, before=0, after=2)
    batch, again = [await store.outputs.finish(batch_id) for _ in range(2)]
    assert batch == again
    assert batch.outcomes == {Outcome.SUCCEEDED: 2, Outcome.INVALID: 1, Outcome.ERRORED: 1}
    with pytest.raises(HydrateConflictError):
        await store.outputs.write(batch_id, [Verdict(position=3, output="3")], before=2, after=3)


async def test_pages_can_be_filtered_by_outcome(store: Store) -> None:
    batch_id = await ingested(store, 6, failed=(2, 5))
    errored = await stored(store, batch_id, outcomes=[Outcome.ERRORED])
    assert [entry.position for entry in errored] == [2, 5]
    both = await stored(store, batch_id, outcomes={Outcome.ERRORED, Outcome.SUCCEEDED}, after=3)
    assert [entry.position for entry in both] == [4, 5, 6]
    assert await stored(store, batch_id, outcomes=[Outcome.MISSING]) == []
    assert await stored(store, batch_id, outcomes=[]) == []


async def test_entries_can_be_read_before_there_are_results(store: Store) -> None:
    batch_id = await over(store, 2)
    found = await stored(store, batch_id)
    assert [(entry.custom_id, entry.outcome, entry.line, entry.output) for entry in found] == [
        ("Ask-1", None, None, None),
        ("Ask-2", None, None, None),
    ]
    assert (found[0].task, found[0].fields) == ("Ask", "{}")


@pytest.mark.parametrize("where", ["line", "fields", "output"])
async def test_a_page_ends_in_time_wherever_the_bytes_are(store: Store, where: str) -> None:
    big = '"' + "x" * 3_000_000 + '"'
    batch = await store.batches.create(new_batch())
    entry = new_entry(fields=big if where == "fields" else "{}")
    await store.entries.add(batch.id, each([entry] * 7), ROOM)
    await store.submissions.accept(batch.id, report())
    lines = [result(number, line=big if where == "line" else "{}") for number in range(1, 8)]
    await store.results.write(batch.id, block(lines, to=10))
    verdicts = [Verdict(position=number, output=big if where == "output" else "0") for number in range(1, 8)]
    await store.outputs.write(batch.id, verdicts, before=0, after=7)
    pages = [[entry.position for entry in page] async for page in store.outputs.pages(batch.id)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7]]


async def test_a_cancelled_write_of_verdicts_leaves_nothing(store: Store, engine: AsyncEngine) -> None:
    batch_id = await ingested(store, 30)
    big = '"' + "x" * 1_000_000 + '"'
    verdicts = [Verdict(position=number, output=big) for number in range(1, 31)]
    writing = asyncio.create_task(store.outputs.write(batch_id, verdicts, before=0, after=30))
    await asyncio.sleep(0.02)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await all_rows(engine, "select count(*) from overnight.outputs") == [(0,)]
    await store.outputs.write(batch_id, verdicts, before=0, after=30)


async def test_entries_of_one_task_are_chosen_by_the_database(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    labels = [new_entry(task="Other"), new_entry(), new_entry(task=None, fields=None), new_entry()]
    await store.entries.add(batch.id, each(labels), ROOM)

    assert [entry.position for entry in await stored(store, batch.id, task="Ask")] == [2, 4]
    assert [entry.position for entry in await stored(store, batch.id)] == [1, 2, 3, 4]


async def test_reading_a_batch_takes_memory_for_a_page_and_not_for_the_batch(store: Store, engine: AsyncEngine) -> None:
    batch_id = await ingested(store, 400)
    line = "update overnight.results set line = repeat('x', 100000) where batch_id = :id"
    async with engine.begin() as connection:
        await connection.execute(text(line), {"id": batch_id})

    tracemalloc.start()
    read = 0
    async for page in store.outputs.pages(batch_id):
        read += sum(len(entry.line or "") for entry in page)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert read == 40_000_000
    assert peak < 30_000_000
