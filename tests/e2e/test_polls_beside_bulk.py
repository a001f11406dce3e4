"""Polls and orders go on, however much heavy work there is."""

import asyncio
from typing import ClassVar

import pytest
from temporalio.client import Client

from overnight import BatchHandle, BatchHandler, Overnight, RawRequest, Settings
from overnight.batches import BatchStatus
from overnight.handling import process
from overnight.parts import Part
from overnight.simulator import SimulatorConfig, Stages
from overnight.storage.store import Store
from worker import Services, compose


class Absorbed(BatchHandler, name="e2e-absorbed"):
    """A handler that is not over before somebody says so."""

    begun: ClassVar[asyncio.Event]
    released: ClassVar[asyncio.Event]

    async def on_completion(self) -> None:
        self.begun.set()
        await self.released.wait()


@pytest.fixture
def simulator_config() -> SimulatorConfig:
    """A provider with which a batch is over as soon as it is told to cancel, and not before."""
    return SimulatorConfig(stages=Stages(validating=0, in_progress=3600, finalizing=0, canceling=0))


@pytest.fixture
def absorbed() -> type[Absorbed]:
    Absorbed.begun, Absorbed.released = asyncio.Event(), asyncio.Event()
    return Absorbed


async def submitted(overnight: Overnight, handler: type[BatchHandler] | None = None) -> BatchHandle:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=handler)
    await batch.add_all([RawRequest(body={"model": "gpt-5.4-mini", "input": "Hello."})])
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:
        await asyncio.sleep(0.05)
    return batch


async def test_a_batch_is_polled_and_canceled_while_handlers_hold_every_bulk_slot(
    overnight: Overnight,
    settings: Settings,
    temporal: Client,
    absorbed: type[Absorbed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "BULK_AT_ONCE", 1)
    services = Services(settings, Store.from_settings(settings))
    async with compose(temporal, services):
        slow, other = await submitted(overnight, absorbed), await submitted(overnight)
        await slow.cancel()
        await absorbed.begun.wait()

        await other.cancel()  # which takes a short step and a poll, and the only bulk slot is taken
        while (await other.get()).status is not BatchStatus.CANCELED:
            await asyncio.sleep(0.05)
        assert (await slow.get()).handler_dispatched_at is None

        absorbed.released.set()
        await asyncio.gather(slow.wait(), other.wait())
    await services.aclose()


async def test_two_processes_that_share_the_work_do_what_one_does(
    overnight: Overnight, settings: Settings, temporal: Client
) -> None:
    services = Services(settings, Store.from_settings(settings))
    async with (
        compose(temporal, services, only=Part.BATCHES) as short,
        compose(temporal, services, only=Part.BULK) as bulk,
    ):
        assert [*short.task_queues, *bulk.task_queues] == [settings.task_queue, f"{settings.task_queue}-bulk"]
        batch = await submitted(overnight)
        await batch.cancel()
        assert (await batch.wait()).status is BatchStatus.CANCELED
    await services.aclose()


async def test_connections_that_are_held_while_others_are_asked_for_are_never_all_there_are(store: Store) -> None:
    pool = store._engine.sync_engine.pool
    there_are = pool.size() + pool._max_overflow  # type: ignore[attr-defined]

    assert there_are > 2 * process.BULK_AT_ONCE + process.SHORT_AT_ONCE
    assert there_are > 2 * process.HANDLERS_AT_ONCE
