"""A batch with a `max_cost` is refused before anything is sent, by whoever hands it over."""

from decimal import Decimal
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from overnight import BatchStatus, Overnight
from overnight.client import BatchHandle
from overnight.contracts import BatchSpec, BatchStart, OpenRequest, SpecEntry
from overnight.errors import CostLimitError, UsageError
from tests.acceptance.stage import MODELS, AtTheProvider, Steps, Weigh


async def filled(overnight: Overnight, **options: Any) -> BatchHandle:
    wanted = {"provider": "openai", "model": MODELS["openai"], "max_cost": Decimal(1), **options}
    batch = await overnight.create_batch(**wanted)
    await batch.add_all(Weigh(text=word) for word in ("one", "two"))
    return batch


async def test_a_batch_that_could_cost_more_stays_pending_and_can_be_changed(
    overnight: Overnight, account: AtTheProvider
) -> None:
    at_most = (await (await filled(overnight)).estimate()).cost_at_most.billed
    assert at_most is not None
    batch = await filled(overnight, max_cost=at_most)

    await batch.add(Weigh(text="one too many"))
    with pytest.raises(CostLimitError, match=rf"max_cost of \${at_most.normalize():f}\. It could cost up to \$0\.0"):
        await batch.submit()

    found = await batch.get()
    assert (found.status, found.sealed_at, found.max_cost) == (BatchStatus.PENDING, None, at_most)
    await batch.add(Weigh(text="still open"))
    assert not await account.calls()


@pytest.mark.parametrize("max_cost", [0, "0.0001", 100, None])
async def test_a_batch_is_closed_exactly_when_it_cannot_cost_more(overnight: Overnight, max_cost: Any) -> None:
    batch = await filled(overnight, max_cost=max_cost)
    at_most = (await batch.estimate()).cost_at_most.billed
    assert at_most is not None
    allowed = max_cost is None or at_most <= Decimal(max_cost)
    try:
        await batch.submit()
    except CostLimitError:
        assert not allowed
    else:
        assert allowed
        await (await batch._workflow()).terminate()
    assert ((await batch.get()).sealed_at is not None) == allowed


async def test_a_batch_of_an_unknown_price_is_refused_too(overnight: Overnight) -> None:
    batch = await filled(overnight, model="gpt-404", allow_unknown_model=True, max_cost=10**6)
    with pytest.raises(CostLimitError, match=r"not known. What gpt-404 costs"):
        await batch.submit()


@pytest.mark.parametrize("max_cost", [-1, "NaN", "Infinity", "much"])
async def test_a_senseless_limit_is_refused(overnight: Overnight, max_cost: Any) -> None:
    with pytest.raises(UsageError, match="max_cost"):
        await filled(overnight, max_cost=max_cost)


async def test_an_entry_that_is_added_while_the_others_are_weighed_is_weighed_too(
    overnight: Overnight, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_most = (await (await filled(overnight)).estimate()).cost_at_most.billed
    batch = await filled(overnight, max_cost=at_most)
    seal = overnight.store.batches.seal

    async def seal_late(*args: Any, **more: Any) -> Any:
        monkeypatch.undo()
        await batch.add(Weigh(text="just in time"))
        return await seal(*args, **more)

    monkeypatch.setattr(overnight.store.batches, "seal", seal_late)
    with pytest.raises(CostLimitError):
        await batch.submit()
    assert (await batch.get()).sealed_at is None


def spec(**more: Any) -> BatchSpec:
    entries = [SpecEntry(task="acceptance-weigh", fields={"text": word}) for word in ("one", "two")]
    return BatchSpec(provider="openai", model=MODELS["openai"], entries=entries, **more)


async def started(steps: Steps, start: BatchStart) -> Any:
    return await steps._run("open_batch", OpenRequest(start=start, workflow_id="w", run_id="r"))


async def test_a_spec_that_could_cost_more_fails_its_start_for_good(
    overnight: Overnight, steps: Steps, account: AtTheProvider
) -> None:
    for _ in range(2):  # an attempt whose answer was lost is made again
        with pytest.raises(ApplicationError, match="could cost up to") as caught:
            await started(steps, BatchStart(spec=spec(max_cost=Decimal("0.000001"))))
        assert (caught.value.type, caught.value.non_retryable) == ("CostLimitError", True)

    (batch,) = await overnight.batches()
    assert (batch.status, batch.failure_code, batch.sealed_at) == (BatchStatus.FAILED, "max_cost", None)
    assert "max_cost of $0.000001" in str(batch.failure_reason)
    assert not await account.calls()


async def test_a_stored_batch_that_somebody_else_starts_is_checked_as_well(overnight: Overnight, steps: Steps) -> None:
    cheap, dear = await filled(overnight), await filled(overnight, max_cost=Decimal("0.000001"))
    assert (await started(steps, BatchStart(batch_id=cheap.id))).status is BatchStatus.PENDING
    with pytest.raises(ApplicationError, match="could cost up to"):
        await started(steps, BatchStart(batch_id=dear.id))
    assert (await dear.get()).status is BatchStatus.FAILED


async def test_what_was_closed_is_not_weighed_again(overnight: Overnight, steps: Steps) -> None:
    batch = await filled(overnight, max_cost=Decimal("0.000001"))
    await overnight.store.batches.seal(batch.id)  # by a client that found it cheap enough, at prices of its day
    assert (await started(steps, BatchStart(batch_id=batch.id))).status is BatchStatus.PENDING
