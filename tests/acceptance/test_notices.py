"""Who hears what of trouble that ends otherwise than in success."""

from datetime import timedelta

import pytest
from psycopg import AsyncConnection
from temporalio.exceptions import ApplicationError

from activities import Services
from overnight import BatchFilter, Outcome, Overnight
from overnight.notices import NoticeKind
from overnight.settings import Settings
from overnight.storage.store import Store
from tests.acceptance.stage import RESULTS, AtTheProvider, Hears, Steps

GONE = {"kind": "status", "status": 404}


async def test_results_that_are_lost_are_not_told_as_a_recovery(
    overnight: Overnight, settings: Settings, account: AtTheProvider, database_url: str
) -> None:
    hears = Hears()
    services = Services(settings, Store.from_settings(settings), [hears])
    steps = Steps(overnight, services)
    batch = await steps.batch("openai", max_age=timedelta(hours=1))
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    await account.fault("openai", RESULTS["openai"], GONE)

    with pytest.raises(ApplicationError, match="404"):
        await steps.ingest(batch.id)
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute("update overnight.batches set submitted_at = submitted_at - interval '1 hour'")
    report = await steps.ingest(batch.id)
    await services.aclose()

    assert [notice.kind for notice in hears.notices] == [NoticeKind.ATTENTION, NoticeKind.ATTENTION]
    assert hears.notices[-1].code == "results_lost"
    after = await batch.get()
    assert (after.trouble_code, after.outcomes) == (None, {Outcome.MISSING: 2})
    assert after.cost.billed is None  # it was answered and billed, and nobody knows how much
    # It stays a person's affair: for the workflow, and in the list.
    assert report.results_lost
    assert after.results_lost_at is not None
    assert [found.id for found in await overnight.batches(BatchFilter(needs_attention=True))] == [batch.id]
