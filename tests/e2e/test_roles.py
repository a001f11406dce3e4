"""Each Postgres role can do its work and nothing else: the whole system, with a login of its own for each process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr
from sqlalchemy import make_url
from temporalio.client import Client

from activities import Services
from overnight import Outcome, Overnight, Settings, Task, UsageError
from overnight.batches import BatchStatus
from overnight.errors import DatabaseError
from overnight.storage.console_values import BatchChoice, Place
from overnight.storage.database import head_version
from overnight.storage.roles import roles_sql
from overnight.storage.store import Store
from tests.integration.console_stage import campaign_in_its_second_round
from worker import compose

PREFIX = "test_of_roles"
PASSWORD = "r0les"
ROLES = ("migrations", "worker", "client", "reader")


class Say(Task[str], name="roles-say"):
    word: str

    def prompt(self) -> str:
        return self.word


def login_of(database_url: str, role: str) -> str:
    url = make_url(database_url).set(username=f"{PREFIX}_{role}_login", password=PASSWORD)
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def granted(store: Store, database_url: str) -> str:
    """The database's URL, with the roles applied twice and a login for each."""
    await store.apply_roles(PREFIX)
    await store.apply_roles(PREFIX)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for role in ROLES:
            login = sql.Identifier(f"{PREFIX}_{role}_login")
            connection.execute(sql.SQL("drop role if exists {}").format(login))
            member = sql.SQL("create role {} login password {} in role {}")
            connection.execute(member.format(login, sql.Literal(PASSWORD), sql.Identifier(f"{PREFIX}_{role}")))
    return database_url


def store_of(granted: str, role: str) -> Store:
    return Store.from_settings(Settings(database_url=SecretStr(login_of(granted, role))), pooled=False)


@pytest.fixture
async def clients(granted: str, settings: Settings, temporal: Client) -> Overnight:
    """The client with the client's login, and a worker with the worker's is at work."""
    return Overnight(settings=settings, store=store_of(granted, "client"), temporal=temporal)


@pytest.fixture
async def roles_worker(granted: str, settings: Settings, temporal: Client) -> AsyncIterator[None]:
    own = settings.model_copy(update={"database_url": SecretStr(login_of(granted, "worker"))})
    services = Services(own, Store.from_settings(own))
    async with compose(temporal, services):
        yield
    await services.aclose()


@pytest.mark.usefixtures("roles_worker")
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_batch_goes_all_its_way_with_a_login_for_each_process(
    clients: Overnight, granted: str, provider: str
) -> None:
    model = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}[provider]
    await clients.store.check()
    batch = await clients.create_batch(provider=provider, model=model)
    await batch.add_all(Say(word=f"word {n}") for n in range(5))
    await batch.estimate()
    await batch.submit()
    finished = await batch.wait()

    assert finished.outcomes == {Outcome.SUCCEEDED: 5}
    assert [entry.outcome async for entry in batch.entries()] == [Outcome.SUCCEEDED] * 5
    reader = store_of(granted, "reader")
    await reader.check()
    assert (await reader.batches.get(batch.id)).status is BatchStatus.ENDED
    worker = store_of(granted, "worker")
    assert await worker.retention.due(timedelta(0)) == [batch.id]
    assert await worker.retention.prune(batch.id) == 5
    await worker.retention.erase(batch.id)


@pytest.mark.usefixtures("roles_worker")
async def test_a_client_may_ask_for_a_cancel(clients: Overnight) -> None:
    batch = await clients.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add(Say(word="hello"))
    await clients.store.batches.seal(batch.id)
    await clients.store.batches.request_cancel(batch.id)
    await batch.submit()

    assert (await batch.wait()).status is BatchStatus.CANCELED


FORBIDDEN = {
    "worker": [
        "create table overnight.mine (n int)",
        "alter table overnight.batches add column mine int",
        "truncate overnight.results",
        "drop table overnight.entries",
        "update overnight.schema_version set version_num = '9999'",
    ],
    "client": [
        "update overnight.batches set status = 'ended', ended_at = now()",
        "update overnight.batches set provider_batch_id = 'batch_of_mine'",
        "update overnight.batches set max_cost = null",
        "update overnight.batches set handler_dispatched_at = null",
        "delete from overnight.batches",
        "update overnight.entries set request = ''",
        "delete from overnight.entries",
        "insert into overnight.results (batch_id, position, outcome) values (gen_random_uuid(), 1, 'missing')",
        "insert into overnight.submissions (batch_id, number, token) values (gen_random_uuid(), 1, 'mine')",
        "create table overnight.mine (n int)",
        "truncate overnight.entries",
    ],
    "reader": [
        "insert into overnight.batches (id) values (gen_random_uuid())",
        "insert into overnight.entries (batch_id) values (gen_random_uuid())",
        "update overnight.batches set sealed_at = now()",
        "delete from overnight.results",
        "insert into overnight.campaigns (id) values (gen_random_uuid())",
        "update overnight.campaigns set cancel_requested_at = now()",
        "select id from overnight.batches for update",
        "create table overnight.mine (n int)",
    ],
    "migrations": ["create role mine", "create table public.mine (n int)"],
}


async def test_the_consoles_login_can_read_all_of_its_pages(store: Store, granted: str) -> None:
    campaign = await campaign_in_its_second_round(store)
    reader = store_of(granted, "reader").console
    assert (await reader.campaigns.get(campaign)).campaign.id == campaign
    assert len((await reader.campaigns.page(BatchChoice(), edge=None, size=5)).items) == 1
    parts = await reader.campaigns.batches(campaign, BatchChoice(troubled=True), number=None, place=Place(), size=5)
    assert [part.number for part in parts.items] == [4]
    assert await reader.campaigns.open_counts() == (1, 1)
    assert len((await reader.batches(BatchChoice(), edge=None, size=5)).items) == 4


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_can_do_more_than_its_work(granted: str, role: str) -> None:
    with psycopg.connect(login_of(granted, role), autocommit=True) as connection:
        for statement in FORBIDDEN[role]:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


async def test_migrations_need_no_superuser_and_their_tables_belong_to_the_group(granted: str) -> None:
    with psycopg.connect(granted, autocommit=True) as connection:
        connection.execute("drop schema overnight cascade")
        connection.execute(roles_sql(PREFIX))
    assert await store_of(granted, "migrations").upgrade() == head_version()
    assert await store_of(granted, "migrations").upgrade() == head_version()
    # What a migration makes can be read and written before anybody grants anything.
    with psycopg.connect(login_of(granted, "worker"), autocommit=True) as connection:
        connection.execute("delete from overnight.results")
    with psycopg.connect(login_of(granted, "reader")) as connection:
        connection.execute("select from overnight.outputs")
        owners = connection.execute("select distinct tableowner from pg_tables where schemaname = 'overnight'")
        assert owners.fetchall() == [(f"{PREFIX}_migrations",)]


async def test_who_may_not_migrate_is_told_so(granted: str) -> None:
    with psycopg.connect(granted, autocommit=True) as connection:
        connection.execute("drop schema overnight cascade")
    with pytest.raises(DatabaseError, match=r"does not let this login do that: .*`overnight db roles`") as caught:
        await store_of(granted, "client").upgrade()
    assert PASSWORD not in str(caught.value)


def test_a_prefix_that_is_no_name_is_refused() -> None:
    with pytest.raises(UsageError, match="prefix"):
        roles_sql("x; drop table y")


async def test_the_command_prints_what_it_would_run_and_runs_it_when_told(database_url: str) -> None:
    async def command(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "overnight.cli", "db", "roles", *arguments),
            env={**os.environ, "OVERNIGHT_DATABASE_URL": database_url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    code, script = await command("--prefix", "night_shift")
    assert (code, script.strip()) == (0, roles_sql("night_shift").strip())
    code, text = await command("--prefix", PREFIX, "--apply")
    assert code == 0
    assert f"{PREFIX}_migrations" in text
