"""The worker killed at every step, its servers killed under it. Whatever dies: one provider batch per batch, one
outcome per entry, every line kept once, the handler's effects once. `surviving` asserts it at the end of each test.

Every death is one of many batches' in the same worker, so that each of them also dies at places that nobody chose.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Sequence
from datetime import timedelta

import pytest

from overnight.batches import BatchStatus
from overnight.errors import BatchClosedError
from tests.chaos import harness_points
from tests.chaos.conftest import StartSystem
from tests.chaos.harness import System
from tests.chaos.harness_tasks import KeepAndFollow

PROVIDERS = ("openai", "anthropic")
LOST = {"kind": "answer_lost"}
SLOW_CREATE = {"kind": "delay", "seconds": 1.5}

pytestmark = pytest.mark.timeout(400)


async def test_a_worker_may_die_at_any_step_of_an_upload(surviving: StartSystem) -> None:
    async with surviving() as system:
        await dying(system, ["openai"], "open_batch", ["begin", "claim.after"])
        await dying(system, ["openai"], "upload_entries", ["page.after", "upload.before", "record_upload.after"])
        # What the first upload left behind is deleted at the end, also by a worker that dies of it.
        for place in ("clean_up/delete_upload.before", "clean_up/delete_upload.after", "clean_up/end"):
            await system.submit("openai", die=["upload_entries/upload.after", place])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_worker_may_die_at_any_step_of_a_create(surviving: StartSystem, provider: str) -> None:
    places = ["begin", "newest.after", "record_intent.after", "create.after", "accept.before", "accept.after", "end"]
    if provider == "anthropic":
        places += ["page.after", "check_undoubted.before", "check_undoubted.after"]
    async with surviving() as system:
        await dying(system, [provider], "create_provider_batch", places)
        # The provider accepts this one after its worker has died. Every create is slow until then: batches from above
        # are being created again, and one of theirs would take a fault that comes only once.
        await system.fault(SLOW_CREATE, operation="batches.create")
        await dying(system, [provider], "create_provider_batch", ["create.during"])
        await system.control("DELETE", "/faults")
        await system.fault(LOST, operation="batches.create", times=1)
        await system.submit(provider, die=["create_provider_batch/create.after", "create_provider_batch/find.after"])


async def test_a_worker_may_die_at_any_step_of_a_poll(surviving: StartSystem) -> None:
    async with surviving() as system:
        await dying(system, PROVIDERS, "fetch_status", ["begin", "read.after", "record_report.after", "end"])


async def test_a_worker_may_die_at_any_step_of_a_cancel(surviving: StartSystem) -> None:
    async with surviving(in_progress=60) as system:
        places = ["begin", "request_cancel.after", "read.after", "record_report.after"]
        batches = [await system.submit(provider) for provider in PROVIDERS * 2]
        for batch, place in zip(batches, places, strict=True):
            await system.until("select 1 from overnight.batches where id = %s and submitted_at < now()", [batch.id])
            harness_points.arm(system.points, batch.id, f"cancel_batch/{place}")
            await batch.cancel()

        await system.finish()

        assert system.deaths == len(places)
        assert {(await batch.get()).status for batch in batches} == {BatchStatus.CANCELED}


async def test_a_worker_may_die_at_any_step_of_giving_up(surviving: StartSystem) -> None:
    places = ["begin", "give_up.after", "read.after", "end"]
    async with surviving(in_progress=60) as system:
        await dying(system, PROVIDERS, "expire_batch", places, max_age=timedelta(seconds=1))

        await system.finish()

        assert {(await batch.get()).failure_code for batch in system.batches} == {"max_age_exceeded"}


async def test_a_worker_may_die_at_any_step_of_ingest_and_hydrate(surviving: StartSystem) -> None:
    async with surviving() as system:
        for how, count in (("duplicate", 2), ("missing", 7), ("malformed", 2), ("unknown_id", 2)):
            await system.fault({"kind": "lines", "how": how, "count": count})
        steps = [
            "begin",
            "write.before",
            "_advance.after",
            "_copy_results.after",
            "write.after",
            "give_up.after",
            "finish.before",
            "finish.after",
        ]
        await dying(system, PROVIDERS, "ingest_results", steps)
        steps = ["begin", "write.before", "_copy_outputs.after", "write.after", "finish.before", "finish.after"]
        await dying(system, PROVIDERS, "hydrate_results", steps)


async def test_a_worker_may_die_at_any_step_of_a_handler(surviving: StartSystem) -> None:
    steps = ["begin", "handler.inside", "_stamp.before", "_stamp.after", "commit.after", "end"]
    async with surviving() as system:
        await dying(system, PROVIDERS, "dispatch_handler", steps)


async def test_a_worker_may_die_at_any_step_of_a_handler_that_starts_the_next_batch(surviving: StartSystem) -> None:
    places = ["add.after", "seal.after", "_stamp.after"]
    async with surviving() as system:
        for place, provider in zip(places, itertools.cycle(PROVIDERS), strict=False):
            await system.submit(provider, die=[f"dispatch_handler/{place}"], handler=KeepAndFollow, entries=10)
        await system.finish()

        parents = {batch.id for batch in system.batches}
        following = [batch for batch in await system.overnight.batches() if batch.id not in parents]
        assert system.deaths == len(places)
        assert {batch.parent_batch_id for batch in following} == parents
        assert [batch.entry_count for batch in following] == [11] * len(places)
        system.batches += [system.overnight.batch(batch.id) for batch in following]


async def dying(
    system: System, providers: Sequence[str], step: str, places: Sequence[str], max_age: timedelta | None = None
) -> None:
    """A batch for each place, the providers taking turns. The second time of getting there is in the middle."""
    for place, provider in zip(places, itertools.cycle(providers), strict=False):
        middle = place in {"page.after", "write.before", "write.after", "_copy_results.after", "handler.inside"}
        await system.submit(provider, die={f"{step}/{place}": 1 + middle}, max_age=max_age)


async def test_temporal_and_postgres_may_die_in_the_middle_of_anything(surviving: StartSystem) -> None:
    async with surviving(mortal_servers=True, in_progress=2) as system:
        await system.fault(LOST, operation="batches.create", times=1)
        ingesting = await system.submit("openai", hold="ingest_results/write.after")
        dispatching = await system.submit("anthropic", hold="dispatch_handler/_stamp.after")
        creating = await system.submit("anthropic", hold="create_provider_batch/create.after")
        in_progress = "select 1 from overnight.batches where id = %s and status = 'in_progress'"
        await system.until(in_progress, [ingesting.id])
        await system.servers.temporal.kill()
        await system.servers.temporal.start()
        holds = await asyncio.gather(*(system.held(batch) for batch in (ingesting, dispatching, creating)))
        await system.servers.postgres.kill()
        for hold in holds:
            hold.unlink()
        await system.servers.postgres.start()


async def test_two_workers_and_two_clients_may_race_and_one_worker_die(surviving: StartSystem) -> None:
    async with surviving(workers=2) as system:
        await system.fault(LOST, operation="batches.create", times=3)
        batches = [await system.submit(provider) for provider in PROVIDERS]
        batches += [await system.submit(provider, die=["create_provider_batch/create.after"]) for provider in PROVIDERS]
        again = await asyncio.gather(*(batch.submit() for batch in batches), return_exceptions=True)
        assert {type(refusal) for refusal in again} == {BatchClosedError}


async def test_a_worker_that_was_taken_for_dead_may_come_back(surviving: StartSystem) -> None:
    places = ["create_provider_batch/record_intent.after", "create_provider_batch/create.after"]
    places += ["ingest_results/write.after", "dispatch_handler/_stamp.after"]
    async with surviving(workers=2) as system:
        for place, provider in zip(places, PROVIDERS * 2, strict=True):
            batch = await system.submit(provider, hold=place)
            hold = await system.held(batch)
            holder = next(worker for worker in system.workers if worker.pid == system.holder(batch))
            holder.freeze()
            hold.unlink()
            await system.retried(batch)
            holder.thaw()


async def test_a_deployment_loses_and_repeats_nothing(surviving: StartSystem) -> None:
    async with surviving() as system:
        (worker,) = system.workers
        await system.fault(SLOW_CREATE, operation="batches.create")
        short = await system.submit("anthropic", hold="create_provider_batch/record_intent.after")
        hold = await system.held(short)
        worker.deploy()
        hold.unlink()
        # Nobody lets these go before the worker's time to finish is over.
        long = [await system.submit("openai", hold="ingest_results/write.after")]
        long += [await system.submit("anthropic", hold="create_provider_batch/create.after")]
        holds = [await system.held(batch) for batch in long]
        worker.deploy()
        await system.eventually("both have ended", lambda: len(worker.ends) >= 2)
        for hold in holds:
            hold.unlink()

        assert worker.ends == [0, 0]


async def test_workers_may_die_at_random(surviving: StartSystem) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    async with surviving(in_progress=1) as system:
        await system.fault(LOST, operation="batches.create", probability=0.5, times=3)
        for number in range(6):
            await system.submit(PROVIDERS[number % 2])
        for _ in range(4):
            await system.eventually("a worker is ready", lambda: system.workers[0].is_ready)
            await asyncio.sleep(chance.uniform(0, 1.5))
            system.workers[0].kill()
