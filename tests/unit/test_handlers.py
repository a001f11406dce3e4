from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from overnight import Overnight
from overnight.batches import TERMINAL, Batch, BatchStatus, Entry, Outcome
from overnight.handlers import BatchHandler
from overnight.tasks import Task


class FakeDispatched:
    """Stands on nothing; keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[UUID, type[Task[Any]] | None, Collection[Outcome] | None]] = []

    async def entries(
        self, batch_id: UUID, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        self.asked.append((batch_id, task, outcomes))
        yield Entry(custom_id="a-1", outcome=Outcome.SUCCEEDED)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext("the connection")

    @property
    def overnight(self) -> Overnight:
        return cast("Overnight", "the client")


def batch(status: BatchStatus) -> Batch:
    return cast("Batch", SimpleNamespace(id=uuid4(), status=status))


class Recording(BatchHandler, name="handlers-test-recording"):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.heard: list[str] = []

    async def on_completion(self) -> None:
        self.heard.append("completion")

    async def on_success(self) -> None:
        self.heard.append("success")

    async def on_failure(self) -> None:
        self.heard.append("failure")


class LouderOnSuccess(Recording, name="handlers-test-louder"):
    async def on_success(self) -> None:
        await super().on_success()
        self.heard.append("SUCCESS")


class OwnOrder(Recording, name="handlers-test-own-order"):
    async def handle(self) -> None:
        await self.on_failure()


class Picky(Recording, name="handlers-test-picky"):
    async def on_completion(self) -> None:
        if self._is_tiny():
            return
        await super().on_completion()

    def _is_tiny(self) -> bool:
        return self.batch.entry_count < 2


class Nothing(BatchHandler, name="handlers-test-nothing"):
    pass


class Breaking(Recording, name="handlers-test-breaking"):
    async def on_completion(self) -> None:
        raise LookupError("broken")


async def heard(handler: type[Recording], status: BatchStatus) -> list[str]:
    instance = handler(batch(status), FakeDispatched())
    await instance.handle()
    return instance.heard


async def test_a_batch_that_ended_is_a_completion_and_then_a_success() -> None:
    assert await heard(Recording, BatchStatus.ENDED) == ["completion", "success"]


@pytest.mark.parametrize("status", sorted(TERMINAL - {BatchStatus.ENDED}))
async def test_any_other_end_is_a_completion_and_then_a_failure(status: BatchStatus) -> None:
    assert await heard(Recording, status) == ["completion", "failure"]


async def test_a_subclass_changes_one_hook_and_leaves_its_parent_alone() -> None:
    assert await heard(LouderOnSuccess, BatchStatus.ENDED) == ["completion", "success", "SUCCESS"]
    assert await heard(LouderOnSuccess, BatchStatus.FAILED) == ["completion", "failure"]
    assert await heard(Recording, BatchStatus.ENDED) == ["completion", "success"]


async def test_a_handler_may_choose_another_order() -> None:
    assert await heard(OwnOrder, BatchStatus.ENDED) == ["failure"]


@pytest.mark.parametrize(("count", "expected"), [(1, ["success"]), (2, ["completion", "success"])])
async def test_a_hook_may_ask_methods_of_its_own_and_return_early(count: int, expected: list[str]) -> None:
    handler = Picky(cast("Batch", SimpleNamespace(status=BatchStatus.ENDED, entry_count=count)), FakeDispatched())
    await handler.handle()
    assert handler.heard == expected


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_a_handler_without_hooks_has_nothing_to_do(status: BatchStatus) -> None:
    await Nothing(batch(status), FakeDispatched()).handle()


async def test_what_a_hook_raises_keeps_the_next_one_from_running() -> None:
    handler = Breaking(batch(BatchStatus.ENDED), FakeDispatched())
    with pytest.raises(LookupError):
        await handler.handle()
    assert handler.heard == []


async def test_a_handler_reads_its_own_batch() -> None:
    dispatched = FakeDispatched()
    handler = Nothing(batch(BatchStatus.ENDED), dispatched)
    assert [entry.custom_id async for entry in handler.entries(outcomes=[Outcome.SUCCEEDED])] == ["a-1"]
    assert dispatched.asked == [(handler.batch.id, None, [Outcome.SUCCEEDED])]
    async with handler.transaction() as connection:
        assert cast("str", connection) == "the connection"
    assert cast("str", handler.overnight) == "the client"
