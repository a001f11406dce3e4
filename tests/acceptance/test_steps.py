"""Each step can be asked for at any time and any number of times: it does its work once, or says why it cannot."""

import logging
from collections import defaultdict
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, Self
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError

from activities import Services, finalize
from overnight import BatchHandler, BatchStatus, Outcome
from overnight.batches import TERMINAL
from overnight.client import BatchHandle
from overnight.storage.store import Store
from tests.acceptance.stage import MODELS, RESULTS, AtTheProvider, Steps, Weigh
from tests.integration.rows import accepted, filled, over

providers = pytest.mark.parametrize("provider", MODELS)


async def test_a_batch_that_is_over_is_not_asked_about(steps: Steps, store: Store, account: AtTheProvider) -> None:
    for status in sorted(TERMINAL):
        report = await steps.poll(await over(store, status=status))
        assert report.status is status

    assert not await account.calls()


async def test_a_batch_that_the_provider_does_not_have_is_not_asked_about(
    steps: Steps, store: Store, account: AtTheProvider
) -> None:
    report = await steps.poll(await filled(store))

    assert report.status is BatchStatus.PENDING
    assert not await account.calls()


@providers
async def test_a_batch_is_created_once_however_often_its_submission_is_repeated(
    steps: Steps, account: AtTheProvider, provider: str
) -> None:
    batch = await steps.batch(provider)

    for _ in range(3):
        report = await steps.submit(batch.id)

    assert report.submitted_at is not None
    calls = await account.calls()
    assert calls["batches.create"] == 1
    assert calls["files.upload"] == (1 if provider == "openai" else 0)


async def test_a_batch_that_was_sent_back_is_submitted_again_though_nobody_heard_that_it_was(
    steps: Steps, store: Store, account: AtTheProvider
) -> None:
    await account.fault("openai", "batches.create", {"kind": "batch", "how": "fail"}, times=1)
    batch = await steps.batch("openai")
    submitted = await steps.submit(batch.id)
    await account.advance(20)

    heard, again = await steps.poll(batch.id, submitted), await steps.poll(batch.id, submitted)
    other = await steps.poll(batch.id, submitted.model_copy(update={"provider_batch_id": "batch_unheard_of"}))

    assert (heard.resubmit, again.resubmit) == (True, True)
    # A database that was restored knows less than the workflow: what was created since could be created twice.
    assert not other.resubmit


# Max age.


@providers
async def test_a_provider_that_will_not_cancel_a_batch_for_its_age_cannot_keep_it_open(
    steps: Steps, account: AtTheProvider, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch = await steps.batch(provider)
    await steps.submit(batch.id)
    await account.fault(provider, "batches.cancel", {"kind": "status", "status": 500})

    with caplog.at_level(logging.WARNING):
        asked = await steps.expire(batch.id)
    closed = await steps.expire(batch.id, final=True)

    assert (await account.calls())["batches.cancel"] == 1
    assert f"batch {batch.id}: the provider would not cancel it after max age" in caplog.text
    assert not asked.status.is_terminal
    assert closed.status is BatchStatus.FAILED
    assert "max age" in ((await batch.get()).failure_reason or "")


async def test_a_batch_that_is_over_is_neither_canceled_nor_failed_for_its_age(
    steps: Steps, store: Store, account: AtTheProvider
) -> None:
    for status in sorted(TERMINAL):
        batch_id = await over(store, status=status)
        before = await store.batches.get(batch_id)
        await steps.expire(batch_id)
        await steps.expire(batch_id, final=True)
        assert await store.batches.get(batch_id) == before

    assert not await account.calls()


async def test_a_batch_that_was_never_sent_is_closed_without_asking_anybody(
    steps: Steps, store: Store, account: AtTheProvider
) -> None:
    batch_id = await filled(store)

    await steps.expire(batch_id)
    closed = await steps.expire(batch_id, final=True)

    assert closed.status is BatchStatus.FAILED
    assert not await account.calls()


# From the end at the provider to the handler.


class Counts(BatchHandler, name="acceptance-counts"):
    runs: ClassVar[defaultdict[UUID, list[str]]] = defaultdict(list)

    async def on_completion(self) -> None:
        self.runs[self.batch.id].append("completion")

    async def on_success(self) -> None:
        self.runs[self.batch.id].append("success")


async def forgets(store: Store, *statements: str) -> None:
    """What Postgres does in a crash with commits that nobody waited for."""
    async with store._engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def at_its_end(steps: Steps, account: AtTheProvider, provider: str) -> BatchHandle:
    """A batch that the provider is done with, and nobody has read."""
    batch = await steps.batch(provider)
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    return batch


@providers
async def test_blocks_that_postgres_lost_in_a_crash_are_read_again_and_not_taken_for_missing(
    services: Services, steps: Steps, account: AtTheProvider, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, write = await at_its_end(steps, account, provider), services.store.results.write

    async def loses(*what: Any) -> None:
        await write(*what)
        back = f"update overnight.batches set ingest_source = '', ingest_offset = 0 where id = '{batch.id}'"
        await forgets(services.store, f"delete from overnight.results where batch_id = '{batch.id}'", back)

    with monkeypatch.context() as crash:
        crash.setattr(services.store.results, "write", loses)
        with pytest.raises(ApplicationError, match="lost the newest results"):
            await steps.ingest(batch.id)
    assert (await batch.get()).ingested_at is None
    await steps.ingest(batch.id)

    assert (await batch.get()).outcomes == {Outcome.SUCCEEDED: 2}


async def test_verdicts_that_postgres_lost_in_a_crash_are_given_again(
    services: Services, steps: Steps, account: AtTheProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, write = await at_its_end(steps, account, "openai"), services.store.outputs.write
    await steps.ingest(batch.id)

    async def loses(*what: Any, **where: Any) -> None:
        await write(*what, **where)
        back = f"update overnight.batches set hydrate_position = 0 where id = '{batch.id}'"
        await forgets(services.store, f"delete from overnight.outputs where batch_id = '{batch.id}'", back)

    with monkeypatch.context() as crash:
        crash.setattr(services.store.outputs, "write", loses)
        with pytest.raises(ApplicationError, match="lost the newest outputs"):
            await steps.hydrate(batch.id)
    assert (await batch.get()).hydrated_at is None
    await steps.hydrate(batch.id)

    assert len([entry.output async for entry in batch.entries(Weigh) if entry.output is not None]) == 2


@providers
async def test_results_that_are_refused_at_first_are_read_at_the_next_attempt_and_then_never_again(
    steps: Steps, account: AtTheProvider, provider: str
) -> None:
    batch = await steps.batch(provider)
    await steps.submit(batch.id)
    await account.advance(2000)
    await account.fault(provider, RESULTS[provider], {"kind": "status", "status": 400}, times=1)
    assert (await steps.poll(batch.id)).status is BatchStatus.ENDED

    with pytest.raises(ApplicationError, match="400"):
        await steps.ingest(batch.id)
    assert (await batch.get()).ingested_at is None
    await steps.ingest(batch.id)
    done, calls = await batch.get(), await account.calls()
    await steps.ingest(batch.id)

    assert done.ingested_at is not None
    assert calls[RESULTS[provider]] == 2
    assert await batch.get() == done
    assert await account.calls() == calls


class NextMonth(datetime):
    """The clock of a worker that is far ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=40)


async def test_no_result_is_lost_to_a_worker_whose_clock_is_ahead(
    steps: Steps, account: AtTheProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await steps.batch("openai")
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    await account.fault("openai", RESULTS["openai"], {"kind": "status", "status": 503}, times=1)
    monkeypatch.setattr(finalize, "datetime", NextMonth, raising=False)

    with pytest.raises(ApplicationError, match="503"):
        await steps.ingest(batch.id)
    await steps.ingest(batch.id)

    assert (await batch.get()).outcomes == {Outcome.SUCCEEDED: 2}


async def test_a_batch_that_went_all_the_way_goes_no_step_again(steps: Steps, account: AtTheProvider) -> None:
    batch = await steps.batch("openai", handler=Counts)
    await steps.submit(batch.id)
    await account.advance(2000)
    await steps.poll(batch.id)
    for step in (steps.ingest, steps.hydrate, steps.dispatch):
        await step(batch.id)
    done, calls = await batch.get(), await account.calls()

    for step in (steps.poll, steps.ingest, steps.hydrate):
        await step(batch.id)
    again = await steps.dispatch(batch.id)

    assert not again.ran
    assert done.handler_dispatched_at is not None
    assert await batch.get() == done
    assert await account.calls() == calls
    assert Counts.runs[batch.id] == ["completion", "success"]


async def test_a_handler_that_is_not_deployed_is_named_and_runs_once_it_is(steps: Steps, store: Store) -> None:
    batch_id = await over(store)
    name = f"acceptance-late-{batch_id}"
    async with store._engine.begin() as connection:
        await connection.execute(text("update overnight.batches set handler = :name"), {"name": name})

    with pytest.raises(ApplicationError, match=name) as caught:
        await steps.dispatch(batch_id)
    assert caught.value.type == "UnknownHandlerError"
    assert not caught.value.non_retryable
    assert (await store.batches.get(batch_id)).handler_dispatched_at is None

    class Late(BatchHandler, name=name):
        pass

    assert (await steps.dispatch(batch_id)).ran
    assert (await store.batches.get(batch_id)).handler_dispatched_at is not None


# All or nothing.


async def test_entries_without_a_line_get_their_outcomes_all_together_or_not_at_all(store: Store) -> None:
    batch_id = await accepted(store, 3)
    await store.batches.close(batch_id, BatchStatus.FAILED, code="c", reason="r")
    async with store._engine.begin() as connection:
        await connection.execute(
            text("alter table overnight.batches add constraint acceptance check (ingested_at is null)")
        )

    with pytest.raises(Exception, match="acceptance"):
        await store.results.finish(batch_id, price_version="v")
    between = await store.batches.get(batch_id)
    async with store._engine.begin() as connection:
        written = (await connection.execute(text("select count(*) from overnight.results"))).scalar_one()
        await connection.execute(text("alter table overnight.batches drop constraint acceptance"))
    after = await store.results.finish(batch_id, price_version="v")

    assert (between.ingested_at, between.outcomes, written) == (None, {}, 0)
    assert after.outcomes == {Outcome.ERRORED: 3}
