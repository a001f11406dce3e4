import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.embedded import EmbeddedPostgres, free_port
from overnight.errors import ConfigurationError, DatabaseError, SchemaVersionError
from overnight.settings import Settings
from overnight.storage.database import VERSION_TABLE, create_engine, head_version, schema_version, upgrade
from overnight.storage.store import Store
from overnight.storage.tables import SCHEMA, metadata
from tests.integration.rows import all_rows, filled

SECRET = "sekret-4711"


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database that nobody has migrated, but with an application's own tables."""
    engine = create_engine(Settings(database_url=SecretStr(database_url)).sqlalchemy_url)
    async with engine.begin() as connection:
        await connection.execute(text("drop schema overnight cascade"))
        await connection.execute(text("create table public.batches (mine int)"))
    yield engine
    await engine.dispose()


def differences(connection: Connection) -> list[object]:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_schemas": True,
        "version_table": VERSION_TABLE,
        "version_table_schema": SCHEMA,
        "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
    }
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


async def test_the_migrated_schema_is_the_one_in_the_tables_module(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


CONSTRAINTS = """
select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'overnight'::regnamespace and contype <> 'n' order by 1, 2
"""
INDEXES = "select indexname, indexdef from pg_indexes where schemaname = 'overnight' and tablename <> 'schema_version'"


async def test_checks_keys_and_indexes_are_those_of_the_tables_module(engine: AsyncEngine) -> None:
    """What alembic does not compare: check constraints, the order and the condition of an index."""

    async def found() -> list[object]:
        constraints = [row for row in await all_rows(engine, CONSTRAINTS) if "schema_version" not in row[0]]
        return [*constraints, *sorted(await all_rows(engine, INDEXES))]

    migrated = await found()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    assert await found() == migrated
    assert len(migrated) > 20


async def test_upgrading_again_changes_nothing(store: Store) -> None:
    batch_id = await filled(store)
    assert await store.upgrade() == head_version()
    assert (await store.batches.get(batch_id)).entry_count == 3


async def test_an_upgrade_leaves_the_applications_own_tables_alone(empty: AsyncEngine) -> None:
    assert await schema_version(empty) is None
    await upgrade(empty)
    assert await schema_version(empty) == head_version()
    assert await all_rows(empty, "select count(*) from public.batches") == [(0,)]


async def test_upgrades_at_once_wait_for_each_other(empty: AsyncEngine, database_url: str) -> None:
    stores = [Store.from_settings(Settings(database_url=SecretStr(database_url))) for _ in range(3)]
    assert await asyncio.gather(*(store.upgrade() for store in stores)) == [head_version()] * 3
    for store in stores:
        await store.aclose()
    assert await schema_version(empty) == head_version()


async def test_a_database_without_a_schema_is_told_what_to_run(empty: AsyncEngine) -> None:
    with pytest.raises(SchemaVersionError, match=r"version none, this code needs .*overnight db upgrade"):
        await Store(empty).check()


async def test_a_database_that_fits_is_taken(store: Store) -> None:
    await store.check()


@pytest.mark.parametrize("served", ["0000", head_version()])
async def test_a_newer_schema_that_serves_this_code_is_used_and_not_upgraded(
    store: Store, engine: AsyncEngine, served: str
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.schema_version set version_num = '9999'"))
        await connection.execute(text(f"comment on schema overnight is 'serves code from {served}'"))
    await store.check()
    with pytest.raises(SchemaVersionError, match=r"9999.*deploy the newer code"):
        await store.upgrade()


async def test_the_present_schema_serves_its_own_code(engine: AsyncEngine) -> None:
    ((said,),) = await all_rows(engine, "select obj_description('overnight'::regnamespace, 'pg_namespace')")
    assert said <= f"serves code from {head_version()}"


async def test_a_database_of_a_newer_version_is_neither_used_nor_upgraded(store: Store, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.schema_version set version_num = '9999'"))
        await connection.execute(text("comment on schema overnight is 'serves code from 9998'"))
    with pytest.raises(SchemaVersionError, match=r"version 9999.*deploy the newer code"):
        await store.check()
    with pytest.raises(SchemaVersionError, match=r"9999.*deploy the newer code"):
        await store.upgrade()
    assert await schema_version(engine) == "9999"


def elsewhere(database_url: str, *, password: str | None = None, database: str | None = None) -> Store:
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    secret, name = password or parts["password"], database or parts["dbname"]
    url = f"postgresql://{parts['user']}:{secret}@{parts['host']}:{parts['port']}/{name}"
    return Store.from_settings(Settings(database_url=SecretStr(url)))


async def refused(store: Store, says: str) -> str:
    with pytest.raises(DatabaseError, match=says) as caught:
        await store.check()
    with pytest.raises(DatabaseError, match=says):
        await store.upgrade()
    await store.aclose()
    assert "OVERNIGHT_DATABASE_URL" in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


async def test_a_database_that_is_not_there_is_named_without_the_password(
    database_url: str, postgres: EmbeddedPostgres
) -> None:
    password = psycopg.conninfo.conninfo_to_dict(postgres.dsn)["password"]
    told = await refused(elsewhere(database_url, database="no_such_database"), "no_such_database")
    assert isinstance(password, str)
    assert password not in told


async def test_a_wrong_password_is_not_repeated(database_url: str) -> None:
    assert SECRET not in await refused(elsewhere(database_url, password=SECRET), "password authentication failed")


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d"
    told = await refused(Store.from_settings(Settings(database_url=SecretStr(url))), "127.0.0.1")
    assert SECRET not in told


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        create_engine(f"postgresql+psycopg://u:{SECRET}@h:port/d")
    assert SECRET not in str(caught.value)


async def test_sessions_speak_utc_and_name_themselves(store: Store) -> None:
    found = await all_rows(store._engine, "select current_setting('timezone'), current_setting('application_name')")
    assert [value.lower() for value in found[0]] == ["utc", "overnight"]
