"""A handler over given entries, without any server."""

from decimal import Decimal
from typing import Any

import pytest

from overnight import BatchHandler, BatchStatus, Cost, Entry, Outcome, Task
from overnight.errors import UsageError
from overnight.testing import answer, refused, run_handler


class Ask(Task[str], name="running-ask"):
    def prompt(self) -> str:
        return "Well?"


class Other(Task[str], name="running-other"):
    def prompt(self) -> str:
        return "Or?"


class Keeps(BatchHandler, name="running-keeps"):
    async def on_completion(self) -> None:
        self.all = [entry.custom_id async for entry in self.entries()]

    async def on_success(self) -> None:
        self.good = [entry.output async for entry in self.entries(Ask, outcomes=[Outcome.SUCCEEDED])]
        async with self.transaction() as connection:
            await connection.execute("a row")  # type: ignore[call-overload]

    async def on_failure(self) -> None:
        self.why = self.batch.failure_reason


class Idle(BatchHandler, name="running-idle"):
    pass


class Raises(BatchHandler, name="running-raises"):
    async def on_success(self) -> None:
        raise LookupError("the handler's own")


class StandIn:
    def __init__(self) -> None:
        self.executed: list[Any] = []

    async def execute(self, statement: Any) -> None:
        self.executed.append(statement)


async def test_the_hooks_run_in_their_order_and_see_the_entries() -> None:
    entries = [
        await answer(Ask(), "Yes.", custom_id="a"),
        await answer(Ask(), refused(), custom_id="b"),
        await answer(Other(), "No.", custom_id="c"),
    ]
    database = StandIn()

    run = await run_handler(Keeps, entries, metadata={"night": 7}, database=database)

    assert run.hooks == ["on_completion", "on_success"]
    assert (run.handler.all, run.handler.good) == (["a", "b", "c"], ["Yes."])
    assert database.executed == ["a row"]
    batch = run.handler.batch
    assert batch.outcomes == {Outcome.SUCCEEDED: 2, Outcome.INVALID: 1}
    assert (batch.entry_count, batch.metadata, batch.handler) == (3, {"night": 7}, "running-keeps")
    assert batch.cost.billed == sum(entry.cost.billed or Decimal(0) for entry in entries) > 0


@pytest.mark.parametrize("status", ["canceled", BatchStatus.EXPIRED, "failed"])
async def test_a_batch_that_did_not_end_well_is_a_failure_with_its_reason(status: Any) -> None:
    run = await run_handler(Keeps, status=status, failure_reason="so it is")

    assert run.hooks == ["on_completion", "on_failure"]
    assert run.handler.why == "so it is"
    assert run.handler.batch.status == status


async def test_a_batch_that_is_not_over_has_no_handler_to_run() -> None:
    with pytest.raises(UsageError, match="'in_progress'"):
        await run_handler(Idle, status="in_progress")


async def test_a_transaction_without_a_database_says_what_to_pass() -> None:
    with pytest.raises(UsageError, match="database=engine"):
        await run_handler(Keeps)


class Follows(BatchHandler, name="running-follows"):
    async def on_success(self) -> None:
        await self.overnight.create_batch(provider="openai", model="gpt-5.4-mini")


async def test_a_handler_that_creates_the_next_batch_gets_the_client_that_the_test_gives() -> None:
    created: list[dict[str, Any]] = []

    class Client:
        async def create_batch(self, **options: Any) -> None:
            created.append(options)

    await run_handler(Follows, overnight=Client())

    assert created == [{"provider": "openai", "model": "gpt-5.4-mini"}]
    with pytest.raises(UsageError, match="overnight=client"):
        await run_handler(Follows)


async def test_a_handler_that_needs_no_database_runs_without_one() -> None:
    assert not (await run_handler(Idle)).committed


async def test_what_a_handler_raises_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="the handler's own"):
        await run_handler(Raises)


async def test_an_unknown_cost_makes_the_sum_unknown() -> None:
    entries = [await answer(Ask(), "Yes."), Entry[str](custom_id="b", outcome=Outcome.SUCCEEDED)]

    run = await run_handler(Idle, entries)

    assert run.handler.batch.cost == Cost(billed=None, list_price=None)
