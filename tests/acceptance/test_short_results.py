"""A result file that ends cleanly and holds fewer lines than the provider counts is not believed at once."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError

from activities import Services
from overnight import BatchFilter, Outcome, Overnight
from overnight.client import BatchHandle
from overnight.notices import NoticeKind
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from overnight.storage.store import Store
from tests.acceptance.stage import MODELS, RESULTS, AtTheProvider, Hears, Steps

WORDS = ("one", "two", "three", "four")
WAITED = [NoticeKind.WAITING, NoticeKind.RECOVERED]
GAVE_UP = [NoticeKind.WAITING, NoticeKind.ATTENTION]

providers = pytest.mark.parametrize("provider", MODELS)
downloads = pytest.mark.parametrize("simulator_config", [False, True], indirect=True, ids=["whole", "ranges"])


@pytest.fixture
def simulator_config(request: pytest.FixtureRequest) -> SimulatorConfig:
    stages = Stages(validating=10, in_progress=1000, finalizing=10, canceling=10)
    return SimulatorConfig(stages=stages, ranges=getattr(request, "param", False))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"results_settle": timedelta(hours=1)})


@pytest.fixture
def hears() -> Hears:
    return Hears()


@pytest.fixture
async def steps(settings: Settings, overnight: Overnight, hears: Hears) -> AsyncIterator[Steps]:
    services = Services(settings, Store.from_settings(settings), [hears])
    yield Steps(overnight, services)
    await services.aclose()


async def over(
    steps: Steps, account: AtTheProvider, provider: str, words: Sequence[str] = WORDS, **options: Any
) -> BatchHandle:
    """A batch that the provider is done with, and nobody has read."""
    batch = await steps.batch(provider, words, **options)
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    return batch


async def short(account: AtTheProvider, provider: str, lines: int, *, half_line: bool = False, **match: Any) -> None:
    await account.fault(provider, RESULTS[provider], {"kind": "short", "lines": lines, "half_line": half_line}, **match)


async def doubts(steps: Steps, batch: BatchHandle) -> None:
    with pytest.raises(ApplicationError, match="results_incomplete"):
        await steps.ingest(batch.id)
    assert (await batch.get()).ingested_at is None


async def change(store: Store, statement: str, **values: Any) -> None:
    async with store._engine.begin() as connection:
        await connection.execute(text(statement), values)


async def passes(store: Store, column: str, interval: timedelta) -> None:
    """By Postgres' clock."""
    await change(store, f"update overnight.batches set {column} = {column} - :interval", interval=interval)


@downloads
@providers
async def test_a_file_that_ends_too_early_is_read_on_from_there_once_it_has_grown(
    steps: Steps, account: AtTheProvider, hears: Hears, provider: str
) -> None:
    batch = await over(steps, account, provider)
    # The third time it has become shorter than what was read of it.
    for lines, half_line in [(1, True), (3, False), (1, False)]:
        await short(account, provider, lines, half_line=half_line)
        await doubts(steps, batch)
        await account.heal()
    report = await steps.ingest(batch.id)

    after = await batch.get()
    assert after.outcomes == {Outcome.SUCCEEDED: 4}
    assert after.cost.billed is not None
    assert (report.lines, report.accepted, report.results_lost) == (4, 4, False)
    assert [notice.kind for notice in hears.notices] == WAITED


@pytest.fixture
def far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this worker."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40 * 86_400)


@providers
@pytest.mark.usefixtures("far_ahead")
async def test_lines_that_are_counted_and_never_come_are_let_go_after_an_hour_of_postgres(
    steps: Steps, store: Store, account: AtTheProvider, hears: Hears, provider: str
) -> None:
    await account.fault(provider, "batches.create", {"kind": "lines", "how": "missing"})
    batch = await over(steps, account, provider)
    await doubts(steps, batch)
    # The batch's age counts as little as the worker's clock.
    await passes(store, "submitted_at", timedelta(hours=30))
    await doubts(steps, batch)
    await passes(store, "results_awaited_since", timedelta(hours=1))
    report = await steps.ingest(batch.id)

    after = await batch.get()
    assert after.outcomes == {Outcome.SUCCEEDED: 3, Outcome.MISSING: 1}
    assert (report.results_lost, after.trouble_code) == (True, None)
    assert after.cost.billed is None
    assert "4 entries are said to be done, and 3 have a line" in (after.last_error or "")
    assert [notice.kind for notice in hears.notices] == GAVE_UP
    assert [found.id for found in await steps.overnight.batches(BatchFilter(needs_attention=True))] == [batch.id]


async def test_half_a_line_that_stays_half_is_lost_and_said_to_be_whatever_goes_wrong_meanwhile(
    steps: Steps, store: Store, account: AtTheProvider, hears: Hears
) -> None:
    batch = await over(steps, account, "anthropic")
    await short(account, "anthropic", 3, half_line=True)
    await doubts(steps, batch)
    await passes(store, "results_awaited_since", timedelta(hours=1))
    await change(store, "alter table overnight.batches add constraint acceptance check (results_lost_at is null)")
    with pytest.raises(ApplicationError, match="IntegrityError"):
        await steps.ingest(batch.id)
    await change(store, "alter table overnight.batches drop constraint acceptance")
    report = await steps.ingest(batch.id)

    after = await batch.get()
    assert (after.outcomes, after.cost.billed) == ({Outcome.SUCCEEDED: 3, Outcome.MISSING: 1}, None)
    # Half a line is a line to those who count them: had it been taken first, nobody would have heard of it.
    assert (report.malformed, report.results_lost) == (1, True)
    assert hears.notices[-1].code == "results_lost"


async def test_results_without_any_line_are_asked_for_until_max_age(
    steps: Steps, store: Store, account: AtTheProvider
) -> None:
    batch = await over(steps, account, "anthropic", max_age=timedelta(hours=10))
    await short(account, "anthropic", 0)
    await doubts(steps, batch)
    await passes(store, "results_awaited_since", timedelta(hours=9))
    await doubts(steps, batch)
    await passes(store, "submitted_at", timedelta(hours=10))
    report = await steps.ingest(batch.id)

    assert (await batch.get()).outcomes == {Outcome.MISSING: 4}
    assert report.results_lost


async def strays(store: Store, batch_id: UUID) -> int:
    return sum([len(page) async for page in store.strays.pages(batch_id)])


@pytest.mark.parametrize("answered", [2, 1], ids=["comes", "never comes"])
async def test_the_second_file_is_not_begun_before_the_first_one_is_whole(
    steps: Steps, store: Store, account: AtTheProvider, answered: int
) -> None:
    await account.fault("openai", "batches.create", {"kind": "batch", "how": "expire", "share": 0.5})
    batch = await over(steps, account, "openai")
    # Two lines of four, one in each file, are as many as were answered.
    await short(account, "openai", 1, times=2)
    await doubts(steps, batch)
    assert (await store.results.position(batch.id)).source == "output"
    if answered < 2:
        await short(account, "openai", 1)
        await passes(store, "results_awaited_since", timedelta(hours=1))
    report = await steps.ingest(batch.id)

    assert (await batch.get()).outcomes == {Outcome.SUCCEEDED: answered, Outcome.EXPIRED: 4 - answered}
    assert report.results_lost is (answered < 2)
    assert await strays(store, batch.id) == 0


async def test_what_is_broken_behind_the_last_entry_is_waited_for_by_nobody(
    steps: Steps, account: AtTheProvider, hears: Hears
) -> None:
    await account.fault("openai", "batches.create", {"kind": "lines", "how": "duplicate"})
    batch = await over(steps, account, "openai")
    await short(account, "openai", 4, half_line=True)
    report = await steps.ingest(batch.id)

    assert (await batch.get()).outcomes == {Outcome.SUCCEEDED: 4}
    assert (report.malformed, report.results_lost) == (1, False)
    assert hears.notices == []
