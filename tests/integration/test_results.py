import asyncio
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
from psycopg import Error as PsycopgError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchStatus, Cost, Outcome, Usage
from overnight.providers.base import ResultPosition
from overnight.storage.answers import Verdict
from overnight.storage.batches import MAX_AGE_EXCEEDED
from overnight.storage.result_rows import PlainRows
from overnight.storage.results import IngestConflictError, Stray
from overnight.storage.store import Store
from tests.integration.rows import COST, USAGE, accepted, all_rows, block, over, result, said

UNKNOWN = Cost(billed=None, list_price=None)


def at(offset: int, source: str = "output") -> ResultPosition:
    return ResultPosition(source=source, offset=offset)


async def outcomes(engine: AsyncEngine, batch_id: UUID) -> dict[int, tuple[str, str | None]]:
    query = "select position, outcome, error_code from overnight.results where batch_id = :batch order by position"
    return {row[0]: (row[1], row[2]) for row in await all_rows(engine, query, batch=batch_id)}


# Blocks.


async def test_a_block_commits_together_with_its_position(store: Store) -> None:
    batch_id = await over(store)
    assert await store.results.position(batch_id) == ResultPosition()
    await store.results.write(batch_id, block([result(1), result(3)], to=100))
    assert await store.results.position(batch_id) == at(100)
    assert await store.results.seen(batch_id) == {1, 3}
    await store.results.write(batch_id, block([result(2)], before=at(100), to=150))
    assert await store.results.seen(batch_id) == {1, 2, 3}


async def test_a_block_that_somebody_else_has_written_is_refused_and_leaves_nothing(
    store: Store, engine: AsyncEngine
) -> None:
    batch_id = await over(store)
    await store.results.write(batch_id, block([result(1)], to=100))
    await store.results.write(batch_id, block([], before=at(100), to=150))
    stray = Stray(number=0, kind="malformed", custom_id=None, line=b"x")
    for before in (ResultPosition(), at(100), at(150, "error"), at(151)):
        with pytest.raises(IngestConflictError, match=str(batch_id)):
            await store.results.write(batch_id, block([result(2)], before=before, to=200, strays=[stray]))
    assert await store.results.seen(batch_id) == {1}
    assert await store.results.position(batch_id) == at(150)
    assert await all_rows(engine, "select * from overnight.stray_results") == []


async def test_a_flush_waits_for_the_disk_and_refuses_to_speak_for_blocks_that_are_gone(
    store: Store, engine: AsyncEngine
) -> None:
    batch_id = await over(store)
    await store.results.write(batch_id, block([result(1)], to=100))
    ((written,),) = await all_rows(engine, "select pg_current_wal_insert_lsn()::text")
    await store.results.flush(batch_id, at(100))
    on_disk = "select pg_current_wal_flush_lsn() >= cast(:written as pg_lsn)"
    assert await all_rows(engine, on_disk, written=written) == [(True,)]
    for gone in (ResultPosition(), at(100, "error"), at(150)):
        with pytest.raises(IngestConflictError, match=str(batch_id)):
            await store.results.flush(batch_id, gone)
    assert await store.results.position(batch_id) == at(100)


async def test_of_many_who_write_the_same_block_one_does(store: Store) -> None:
    batch_id = await over(store)
    writes = [store.results.write(batch_id, block([result(1), result(2)], to=100)) for _ in range(8)]
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(error is None for error in found) == 1
    assert sum(isinstance(error, IngestConflictError) for error in found) == 7
    assert await store.results.seen(batch_id) == {1, 2}


@pytest.mark.parametrize(
    "bad",
    [
        result(2, line="NUL\x00"),
        result(2, line="\ud800"),
        result(2, usage=Usage(input_tokens=2**70)),
        result(1),
    ],
    ids=["NUL", "surrogate", "huge", "twice"],
)
async def test_a_block_with_one_row_that_cannot_be_written_leaves_nothing(store: Store, bad: object) -> None:
    batch_id = await over(store)
    with pytest.raises((PsycopgError, DBAPIError, UnicodeError)):
        await store.results.write(batch_id, block([result(1), bad, result(3)], to=100))  # type: ignore[list-item]
    assert await store.results.seen(batch_id) == set()
    assert await store.results.position(batch_id) == ResultPosition()
    await store.results.write(batch_id, block([result(1)], to=100))


async def test_a_cancelled_write_leaves_nothing_and_can_be_done_again(store: Store) -> None:
    batch_id = await over(store, 3)
    big = block([result(number, line="x" * 1_000_000) for number in range(1, 40)], to=100)
    for _ in range(25):
        writing = asyncio.create_task(store.results.write(batch_id, big))
        await asyncio.sleep(0.005)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await store.results.position(batch_id) == ResultPosition()
    await store.results.write(batch_id, big)
    assert len(await store.results.seen(batch_id)) == 39


async def test_numbers_and_texts_come_back_as_they_were(store: Store) -> None:
    batch_id = await over(store, 1)
    usage = Usage(
        input_tokens=2**40,
        cache_read_tokens=1,
        cache_write_tokens=2,
        cache_write_1h_tokens=3,
        output_tokens=2**62,
        reasoning_tokens=4,
    )
    cost = Cost(billed=Decimal("0.00000002500000000001"), list_price=Decimal("123456789012345.000000000001"))
    line = '{"t":"\u2028\x85\N{GRINNING FACE} \\u0000 \\\\N \\t \t"}'
    await store.results.write(batch_id, block([result(1, usage=usage, cost=cost, line=line, reason="\\N")], to=1))
    page = [entry async for page in store.outputs.pages(batch_id) for entry in page]
    assert (page[0].usage, page[0].cost, page[0].line, page[0].reason) == (usage, cost, line, "\\N")
    batch = await store.results.finish(batch_id, price_version="v")
    assert (batch.usage, batch.cost) == (usage, cost)


async def test_plain_rows_come_back_as_they_were(store: Store) -> None:
    batch_id = await over(store, 3)
    most = 2**31 - 1
    line = '{"t":"\u2028\x85\N{GRINNING FACE} \\u0000 \\\\N \\t \\n", "x":\t1}'
    rows = PlainRows(batch_id, places=11)
    rows.add(1, ("Ask-1", most, 1, 2, 3, most, 4), (9_007_199_254_740_990, 10), line.encode())
    rows.add(2, ("Ask-2", 0, 0, 0, 0, 0, 0), (0, 10_000_000_000_000), b"{}")
    rows.add(3, ("Ask-3", 7, 0, 0, 0, 8, 0), None, b"{}")
    plain = replace(block([], to=1), plain=rows.data(), plain_count=len(rows))
    await store.results.write(batch_id, plain)
    (page,) = [page async for page in store.outputs.pages(batch_id)]
    exact = Cost(billed=Decimal("9007.19925474099"), list_price=Decimal("0.00000000001"))
    assert [entry.cost for entry in page] == [exact, Cost(billed=Decimal(0), list_price=Decimal(10)), UNKNOWN]
    assert (page[0].usage.input_tokens, page[0].usage.output_tokens, page[0].line) == (most, most, line)
    assert (page[0].usage.cache_write_1h_tokens, page[0].usage.reasoning_tokens) == (3, 4)
    assert {entry.outcome for entry in page} == {Outcome.SUCCEEDED}
    bad = PlainRows(batch_id, places=0)
    bad.add(3, ("Ask-3", 0, 0, 0, 0, 0, 0), None, b"\xff")
    with pytest.raises(PsycopgError, match="UTF8"):
        await store.results.write(batch_id, replace(block([], before=at(1), to=2), plain=bad.data(), plain_count=1))


async def test_strays_are_kept_as_bytes_and_every_line_is_counted(store: Store, engine: AsyncEngine) -> None:
    batch_id = await over(store, 4)
    strays = [
        Stray(number=1, kind="malformed", custom_id=None, line=b"\x00\xff\n\\"),
        Stray(number=2, kind="duplicate", custom_id="Ask-1", line=b"{}"),
        Stray(number=3, kind="unknown", custom_id="who", line=b""),
    ]
    await store.results.write(batch_id, block([result(1)], to=50, strays=strays))
    more = [Stray(number=1, kind="duplicate", custom_id="Ask-1", line=b"again")]
    await store.results.write(batch_id, block([result(2)], before=at(50), to=90, strays=more))
    await store.results.finish(batch_id, price_version=None)
    counts = await store.results.line_counts(batch_id)
    assert (counts.accepted, counts.duplicate, counts.unknown, counts.malformed) == (2, 2, 1, 1)
    assert counts.without_line == 2
    kept = await all_rows(engine, "select ends_at, number, line from overnight.stray_results order by 1, 2")
    assert [(row[0], row[1], bytes(row[2])) for row in kept] == [
        (50, 1, b"\x00\xff\n\\"),
        (50, 2, b"{}"),
        (50, 3, b""),
        (90, 1, b"again"),
    ]


# The end of ingestion.


@pytest.mark.parametrize(
    ("status", "without"),
    [
        (BatchStatus.ENDED, ("missing", "no_result_line")),
        (BatchStatus.CANCELED, ("canceled", "batch_canceled")),
        (BatchStatus.EXPIRED, ("expired", "batch_expired")),
        (BatchStatus.FAILED, ("errored", "batch_failed")),
    ],
)
async def test_an_entry_without_a_line_gets_its_outcome_from_the_batch(
    store: Store, engine: AsyncEngine, status: BatchStatus, without: tuple[str, str]
) -> None:
    batch_id = await over(store, 4, status)
    await store.results.write(batch_id, block([result(2)], to=10))
    batch = await store.results.finish(batch_id, price_version="v")
    assert await outcomes(engine, batch_id) == {1: without, 2: ("succeeded", None), 3: without, 4: without}
    assert batch.outcomes == {Outcome.SUCCEEDED: 1, Outcome(without[0]): 3}
    assert batch.ingested_at is not None


async def test_the_entries_of_a_refused_batch_say_why_it_was_refused(store: Store, engine: AsyncEngine) -> None:
    batch_id = await over(store, 2, BatchStatus.FAILED, failure_code="quota", failure_reason="no money")
    await store.results.finish(batch_id, price_version=None)
    assert await all_rows(engine, "select distinct outcome, error_code, reason from overnight.results") == [
        ("errored", "quota", "no money")
    ]


async def test_the_entries_of_a_batch_that_grew_too_old_are_expired(store: Store, engine: AsyncEngine) -> None:
    batch_id = await accepted(store, 2)
    await store.batches.close(batch_id, BatchStatus.FAILED, code=MAX_AGE_EXCEEDED, reason="too old")
    await store.results.finish(batch_id, price_version=None)
    assert set((await outcomes(engine, batch_id)).values()) == {("expired", MAX_AGE_EXCEEDED)}


async def test_the_sums_of_a_batch_are_those_of_its_lines(store: Store) -> None:
    batch_id = await over(store, 5)
    await store.results.write(batch_id, block([result(number) for number in (1, 2, 3)], to=10))
    batch = await store.results.finish(batch_id, price_version="table 7")
    assert batch.usage == USAGE + USAGE + USAGE
    assert batch.cost == Cost(billed=COST.billed * 3, list_price=COST.list_price * 3)  # type: ignore[operator]


@pytest.mark.parametrize(
    "usage", [Usage(input_tokens=1), Usage(output_tokens=1), Usage(cache_read_tokens=1), Usage(reasoning_tokens=1)]
)
async def test_one_entry_of_unknown_cost_makes_the_batchs_cost_unknown(store: Store, usage: Usage) -> None:
    batch_id = await over(store, 3)
    await store.results.write(batch_id, block([result(1), result(2, usage=usage, cost=UNKNOWN)], to=10))
    assert (await store.results.finish(batch_id, price_version="v")).cost == UNKNOWN


@pytest.mark.parametrize(("is_priced", "cost"), [(False, COST), (True, UNKNOWN)])
async def test_a_failed_entry_without_tokens_and_cost_is_free_only_where_nothing_has_a_price(
    store: Store, *, is_priced: bool, cost: Cost
) -> None:
    batch_id = await over(store, 3)
    refused = result(2, usage=Usage(), cost=UNKNOWN, outcome=Outcome.ERRORED)
    await store.results.write(batch_id, block([result(1), refused], to=10))
    assert (await store.results.finish(batch_id, price_version="v", is_priced=is_priced)).cost == cost


async def test_entries_without_a_line_are_free_whatever_has_a_price(store: Store) -> None:
    batch_id = await over(store, 3)
    await store.results.write(batch_id, block([result(1)], to=10))
    assert (await store.results.finish(batch_id, price_version="v", is_priced=True)).cost == COST


async def test_an_answer_that_nobody_counted_makes_the_batchs_cost_unknown(store: Store) -> None:
    batch_id = await over(store)
    await store.results.write(batch_id, block([result(1), result(2, usage=Usage(), cost=UNKNOWN)], to=10))
    assert (await store.results.finish(batch_id, price_version="v")).cost == UNKNOWN


async def test_finishing_again_changes_nothing(store: Store, engine: AsyncEngine) -> None:
    batch_id = await over(store, 3)
    first, *others = await asyncio.gather(*(store.results.finish(batch_id, price_version="v") for _ in range(6)))
    assert all(other == first for other in others)
    assert await all_rows(engine, "select count(*) from overnight.results") == [(3,)]


async def test_no_block_is_written_after_the_end(store: Store) -> None:
    batch_id = await over(store, 3)
    await store.results.finish(batch_id, price_version="v")
    with pytest.raises(IngestConflictError):
        await store.results.write(batch_id, block([], to=10))


async def test_results_of_one_batch_stay_apart_from_those_of_another(store: Store) -> None:
    one, two = await over(store), await over(store)
    await store.results.write(one, block([result(1)], to=10))
    assert await store.results.seen(two) == set()
    await store.results.finish(two, price_version="v")
    assert await store.results.seen(one) == {1}


async def test_twenty_thousand_lines_are_written_and_summed(store: Store) -> None:
    batch_id = await over(store, 20_001)
    position = ResultPosition()
    for start in range(1, 20_001, 5_000):
        lines = [result(number) for number in range(start, start + 5_000)]
        await store.results.write(batch_id, block(lines, before=position, to=start))
        position = at(start)
    assert len(await store.results.seen(batch_id)) == 20_000
    batch = await store.results.finish(batch_id, price_version="v")
    assert batch.outcomes == {Outcome.SUCCEEDED: 20_000, Outcome.MISSING: 1}
    assert batch.cost.billed == Decimal("0.02")


async def test_a_batch_of_the_provider_that_failed_at_once_has_no_lines_and_costs_nothing(store: Store) -> None:
    batch_id = await accepted(store)
    await store.batches.record_report(batch_id, said(batch_id, BatchStatus.FAILED))
    batch = await store.results.finish(batch_id, price_version="v")
    assert batch.cost == Cost(billed=Decimal(0), list_price=Decimal(0))


async def test_a_batch_that_is_deleted_takes_everything_of_it_along_and_nothing_else(
    store: Store, engine: AsyncEngine
) -> None:
    one, two = await over(store), await over(store)
    for batch_id in (one, two):
        stray = Stray(number=0, kind="malformed", custom_id=None, line=b"x")
        await store.results.write(batch_id, block([result(1)], to=100, strays=[stray]))
        await store.results.finish(batch_id, price_version=None)
        await store.outputs.write(batch_id, [Verdict(position=1, output="1")], before=0, after=1)
    async with engine.begin() as connection:
        await connection.execute(text("delete from overnight.batches where id = :id"), {"id": one})
    for table, left in {"entries": 3, "results": 3, "outputs": 1, "stray_results": 1, "submissions": 1}.items():
        assert await all_rows(engine, f"select batch_id, count(*) from overnight.{table} group by 1") == [(two, left)]


async def test_a_block_that_races_with_the_deletion_of_its_batch_leaves_no_orphan(
    store: Store, engine: AsyncEngine
) -> None:
    batch_id = await over(store)

    async def delete() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("delete from overnight.batches where id = :id"), {"id": batch_id})

    write = store.results.write(batch_id, block([result(1, line="x" * 5_000_000)], to=100))
    await asyncio.gather(write, delete(), return_exceptions=True)
    assert await all_rows(engine, "select count(*) from overnight.results") == [(0,)]
    with pytest.raises(IngestConflictError):
        await store.results.write(batch_id, block([result(2)], to=100))
    assert await all_rows(engine, "select count(*) from overnight.results") == [(0,)]
