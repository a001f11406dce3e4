"""Reads of a page cost what the page holds, wherever in a batch it is and however many batches there are."""

import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from psycopg.sql import SQL
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import Outcome
from overnight.ids import new_batch_id
from overnight.storage.console_values import BatchChoice, Edge, Part, Place
from overnight.storage.database import fetching
from overnight.storage.entries import POSITIONS, page_query
from overnight.storage.store import Store
from tests.integration.campaign_rows import new_campaign
from tests.integration.rows import new_batch

ENTRIES = 20_000
LATE = ENTRIES - 1_500

FILL = [
    "insert into overnight.entries select :batch, n, 'c-' || n, 'Ask', '[1]', repeat('q', 200) from numbers",
    """
    insert into overnight.results (batch_id, position, outcome, line)
    select :batch, n, case n % 50 when 0 then 'errored' else 'succeeded' end, repeat('a', 300) from numbers
    """,
    "insert into overnight.outputs select :batch, n, '[2]' from numbers where n % 50 <> 0",
]


@pytest.fixture
async def batch_id(store: Store, engine: AsyncEngine) -> UUID:
    """The second of three large batches, with statistics."""
    ids = [(await store.batches.create(new_batch())).id for _ in range(3)]
    async with engine.begin() as connection:
        await connection.execute(text(f"create temporary table numbers as select generate_series(1, {ENTRIES}) as n"))
        for batch_id in ids:
            for statement in FILL:
                await connection.execute(text(statement), {"batch": batch_id})
        for table in ("entries", "results", "outputs", "batches"):
            await connection.execute(text(f"analyze overnight.{table}"))
    return ids[1]


class Plans:
    """The plans of the statements that a store really runs, cursors and prepared statements included."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def of(self, reading: AsyncIterator[object]) -> str:
        """The plan of the first page."""
        with self._watching() as seen:
            async for _ in reading:
                break
        return await self._explained(*seen[0])

    async def of_each(self, asking: Awaitable[object]) -> str:
        """The plans of all that is selected."""
        with self._watching() as seen:
            await asking
        asked = [(statement, parameters) for statement, parameters in seen if not statement.startswith("set ")]
        assert asked
        return "\n".join([await self._explained(*selected) for selected in asked])

    @contextmanager
    def _watching(self) -> Iterator[list[tuple[str, object]]]:
        seen: list[tuple[str, object]] = []

        def keep(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
            seen.append((statement, parameters))

        event.listen(self._engine.sync_engine, "before_cursor_execute", keep)
        try:
            yield seen
        finally:
            event.remove(self._engine.sync_engine, "before_cursor_execute", keep)

    async def _explained(self, statement: str, parameters: object) -> str:
        async with self._engine.connect() as connection:
            rows = await connection.exec_driver_sql(f"explain (analyze, timing off) {statement}", parameters)  # type: ignore[arg-type]
            return "\n".join(row[0] for row in rows)


@pytest.fixture
def plans(store: Store) -> Plans:
    return Plans(store._engine)


def rows_touched(plan: str) -> int:
    """The most rows that any step of a plan has handled, those that it threw away included."""
    handled = [int(float(rows)) for rows in re.findall(r"actual rows=([\d.]+)", plan)]
    thrown = [int(float(rows)) for rows in re.findall(r"Rows Removed by [\w ]+: (\d+)", plan)]
    return max(handled) + max(thrown, default=0)


async def test_a_page_is_read_by_index_and_from_where_it_begins(store: Store, plans: Plans, batch_id: UUID) -> None:
    for after in (0, LATE):
        for outcomes in (None, [Outcome.SUCCEEDED]):
            plan = await plans.of(store.outputs.pages(batch_id, after=after, outcomes=outcomes))
            assert "Seq Scan" not in plan, plan
            assert rows_touched(plan) <= 3_000, plan


@pytest.mark.parametrize("column", ["custom_id", "task"])
async def test_a_page_of_requests_is_read_by_index_and_no_further(
    store: Store, engine: AsyncEngine, batch_id: UUID, column: str
) -> None:
    for after in (0, LATE):
        async with engine.connect() as connection:
            query = SQL("explain (analyze, timing off) ") + page_query(column)
            rows = await fetching(connection, query, batch_id, after, after + 1_000, 10**9)
        plan = "\n".join(row[0] for row in rows)
        assert "entries_pkey" in plan, plan
        assert rows_touched(plan) <= 1_000, plan


async def test_the_entries_of_a_block_are_looked_up_one_by_one_however_large_the_batch(
    engine: AsyncEngine, batch_id: UUID
) -> None:
    custom_ids = ",".join(f"c-{number}" for number in range(LATE, LATE + 1_000))
    async with engine.connect() as connection:
        query = text(f"explain (analyze, timing off) {POSITIONS}")
        rows = await connection.execute(query, {"batch_id": batch_id, "custom_ids": custom_ids})
        plan = "\n".join(row[0] for row in rows)
    assert "entries_batch_id_custom_id_key" in plan, plan
    assert rows_touched(plan) <= 1_000, plan


async def test_the_console_reads_a_page_of_entries_by_index_wherever_it_is(
    store: Store, plans: Plans, batch_id: UUID
) -> None:
    places = (Place(), Place(LATE), Place(LATE, backwards=True), Place(ENTRIES + 1, backwards=True))
    for outcome in (None, Outcome.SUCCEEDED, Outcome.ERRORED, Outcome.MISSING):
        for place in places:
            plan = await plans.of_each(store.console.entries(batch_id, place=place, size=50, outcome=outcome))
            assert "Seq Scan" not in plan, plan
            assert rows_touched(plan) <= 110, plan


async def test_the_console_finds_entries_by_key_and_adds_up_nothing_that_is_added_up(
    store: Store, plans: Plans, batch_id: UUID
) -> None:
    for asking in (
        store.console.entry(batch_id, LATE),
        store.console.entry_slice(batch_id, LATE, Part.OUTPUT, 0),
        store.console.position_of(batch_id, f"c-{LATE}"),
        store.console.search(f"c-{LATE}", size=50),
    ):
        plan = await plans.of_each(asking)
        assert not re.search("Seq Scan on (entries|results|outputs)", plan), plan
        assert rows_touched(plan) <= 6, plan
    for asking in (
        store.console.batch(batch_id),
        store.console.batches(BatchChoice(), edge=None, size=50),
        store.console.spendings(datetime(2020, 1, 1, tzinfo=UTC)),
        store.console.open_counts(),
    ):
        plan = await plans.of_each(asking)
        assert not re.search("on (entries|results|outputs)", plan), plan


async def test_the_console_reads_a_page_of_batches_from_where_it_begins(
    store: Store, engine: AsyncEngine, plans: Plans
) -> None:
    first = await store.batches.create(new_batch())
    async with engine.begin() as connection:
        columns = "id, provider, model, endpoint, poll_waits, max_age, created_at"
        await connection.execute(
            text(
                f"insert into overnight.batches ({columns}) select gen_random_uuid(), provider, model, endpoint, "
                "poll_waits, max_age, now() - n * interval '1 min' from overnight.batches, generate_series(1, 5000) n"
            )
        )
        await connection.execute(text("analyze overnight.batches"))
    middle = first.created_at - timedelta(minutes=4_000)
    for edge in (None, Edge(middle, first.id), Edge(middle, first.id, backwards=True)):
        plan = await plans.of_each(store.console.batches(BatchChoice(), edge=edge, size=50))
        assert "batches_created_at_idx" in plan, plan
        assert rows_touched(plan) <= 60, plan


CAMPAIGN_BATCHES = """
    insert into overnight.batches
        (id, campaign_id, number, round, entry_count, provider, model, endpoint, poll_waits, max_age, ingested_at)
    select gen_random_uuid(), id, n, 1 + n / 900, 1000, provider, model, endpoint, poll_waits, batch_max_age, now()
    from overnight.campaigns, generate_series(1, 1000) n
"""


async def test_the_console_reads_a_campaign_by_the_sums_of_its_own_batches(
    store: Store, engine: AsyncEngine, plans: Plans
) -> None:
    campaign_id, *_ = [await new_campaign(store) for _ in range(20)]
    async with engine.begin() as connection:
        for statement in (CAMPAIGN_BATCHES, "analyze overnight.campaigns", "analyze overnight.batches"):
            await connection.execute(text(statement))
    console = store.console.campaigns
    for asking in (
        console.get(campaign_id),
        console.page(BatchChoice(), edge=None, size=5),
        console.batches(campaign_id, BatchChoice(), number=2, place=Place(), size=50),
        console.batches(campaign_id, BatchChoice(), number=None, place=Place(500, backwards=True), size=50),
    ):
        plan = await plans.of_each(asking)
        assert "batches_campaign_id_number_key" in plan, plan
        assert "Seq Scan on batches" not in plan, plan
        assert not re.search("on (entries|results|outputs)", plan), plan
        assert rows_touched(plan) <= 2_000, plan


BY_BATCH = [
    "select position from overnight.results where batch_id = '{}'",
    "select custom_id, position from overnight.entries where batch_id = '{}'",
    "select outcome, count(*) from overnight.results where batch_id = '{}' group by outcome",
    "select kind, count(*) from overnight.stray_results where batch_id = '{}' group by kind",
]


async def test_the_rows_of_one_batch_can_be_found_by_index(engine: AsyncEngine) -> None:
    batch_id = new_batch_id()
    async with engine.begin() as connection:
        await connection.execute(text("set local enable_seqscan = off"))  # the small tables of a test have no need
        for query in BY_BATCH:
            plan = str((await connection.exec_driver_sql("explain " + query.format(batch_id))).all())
            assert re.search("Index|Bitmap", plan), plan
            assert "Seq Scan" not in plan, plan


async def test_the_gauges_cost_what_is_unfinished_however_much_is_finished(
    store: Store, plans: Plans, engine: AsyncEngine
) -> None:
    first = await store.batches.create(new_batch())
    finish = "update overnight.batches set sealed_at = now(), handler_dispatched_at = now()"
    columns = "provider, model, endpoint, poll_waits, max_age"
    copies = f"""
        insert into overnight.batches (id, {columns})
        select gen_random_uuid(), {columns} from overnight.batches, generate_series(1, 5000)
    """
    async with engine.begin() as connection:
        for statement in (
            copies,
            finish,
            f"update overnight.batches set handler_dispatched_at = null where id = '{first.id}'",
        ):
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("vacuum analyze overnight.batches")
        )

    vitals = await store.vitals.read()
    plan = await plans.of_each(store.vitals.read())

    assert sum(vitals.unfinished.values()) == 1
    assert vitals.needing_attention == 0
    assert vitals.oldest_age >= timedelta(0)
    assert "Seq Scan on batches" not in plan, plan
    assert rows_touched(plan) <= 3, plan
