"""The database as a whole: how to reach it, and which version of the schema it has."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic.command import upgrade as alembic_upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import AsyncConnection as PsycopgConnection
from psycopg import AsyncCopy
from psycopg.sql import Composed
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from overnight.errors import ConfigurationError, DatabaseError, SchemaVersionError
from overnight.storage.tables import SCHEMA

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"

# Any 64-bit number will do, as long as every migrating process takes the same one.
_MIGRATION_LOCK = 0x6F7665726E696774


def create_engine(url: str, *, pool_size: int = 35) -> AsyncEngine:
    """An engine whose sessions speak UTC and name themselves in `pg_stat_activity`.

    Args:
        url: of the database, as SQLAlchemy wants it.
        pool_size: connections that are kept open. With 0 there is no pool, and nothing to be closed at the end: for
            engines that are used from more than one event loop.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Without the cause: it would quote parts of the URL, and with that maybe the password.
        raise ConfigurationError(
            "The database's URL cannot be read. It looks like postgresql://user:password@localhost:5432/overnight, "
            "with special characters of the password percent-encoded."
        ) from None
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size, "pool_pre_ping": True}
    return create_async_engine(
        address,
        **(pool if pool_size else {"poolclass": NullPool}),
        hide_parameters=True,  # prompts are parameters, and errors end up in logs
        connect_args={"application_name": "overnight", "options": "-c timezone=utc", "connect_timeout": 10},
    )


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head_version() -> str:
    """The schema version that this code was written for."""
    head = _scripts().get_current_head()
    assert head is not None
    return head


def _known_versions() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


@asynccontextmanager
async def _reachable(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    where = engine.url.render_as_string(hide_password=True)
    try:
        async with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, OSError) as error:
        cause = error.orig if isinstance(error, OperationalError | InterfaceError) else error
        raise DatabaseError(
            f"Postgres does not answer at {where}: {str(cause).strip()}. "
            f"Check OVERNIGHT_DATABASE_URL and that the server runs; `overnight dev` starts one for development."
        ) from None


def _version(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


async def schema_version(engine: AsyncEngine) -> str | None:
    """The schema version of the database, or None when there is no schema yet.

    Raises:
        DatabaseError: Postgres does not answer.
    """
    async with _reachable(engine) as connection:
        return await connection.run_sync(_version)


async def check_schema(engine: AsyncEngine) -> None:
    """Make sure that the database fits this code.

    Raises:
        DatabaseError: Postgres does not answer.
        SchemaVersionError: the schema is absent, older or newer.
    """
    found, wanted = await schema_version(engine), head_version()
    if found != wanted:
        raise SchemaVersionError(
            f"The database has schema version {found or 'none'}, this code needs {wanted}. "
            f"Run `overnight db upgrade`; if the database is ahead of the code, deploy the newer code instead."
        )


def _upgrade(connection: Connection) -> None:
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    config = alembic_config()
    found = _version(connection)
    if found is not None and found not in _known_versions():
        raise SchemaVersionError(
            f"The database has schema version {found}, which this code does not know: deploy the newer code instead."
        )
    config.attributes["connection"] = connection
    alembic_upgrade(config, "head")


async def upgrade(engine: AsyncEngine) -> str:
    """Bring the schema to this code's version and return it; a database that has it already is left alone.

    Processes that do this at once wait for each other on an advisory lock.

    Raises:
        DatabaseError: Postgres does not answer.
        SchemaVersionError: the schema is newer than this code.
    """
    async with _reachable(engine) as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        # Alembic imports its scripts; that must not stop other work on the loop for good, and it does not take long.
        await connection.run_sync(_upgrade)
        await connection.commit()
    logger.info("schema is at version %s", head_version())
    await asyncio.sleep(0)
    return head_version()


@asynccontextmanager
async def copying(connection: AsyncConnection, statement: str, *parameters: object) -> AsyncIterator[AsyncCopy]:
    """COPY, on the driver's own connection below SQLAlchemy's; it takes part in the same transaction."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, PsycopgConnection)
    try:
        async with driver.cursor() as cursor, cursor.copy(statement, parameters) as copy:
            yield copy
    except asyncio.CancelledError:
        # Cut off within the protocol: a rollback would fail, and its error would hide the cancellation.
        await connection.invalidate()
        raise


async def fetching(connection: AsyncConnection, query: Composed, *parameters: object) -> list[tuple[Any, ...]]:
    """Rows in the binary protocol, on the driver's own connection: in arrays, texts come without quoting then."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, PsycopgConnection)
    async with driver.cursor(binary=True) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()
