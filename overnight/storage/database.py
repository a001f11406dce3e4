"""The database as a whole: how to reach it, and which version of the schema it has."""

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic.command import upgrade as alembic_upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import AsyncConnection as PsycopgConnection
from psycopg import AsyncCopy
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import Composed
from sqlalchemy import Connection, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.event import listens_for
from sqlalchemy.exc import ArgumentError, InterfaceError, InvalidatePoolError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from overnight.errors import ConfigurationError, DatabaseError, SchemaVersionError
from overnight.log_events import LogEvent
from overnight.storage.tables import SCHEMA

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"

# Any 64-bit number will do, as long as every migrating process takes the same one.
_MIGRATION_LOCK = 0x6F7665726E696774

# A script that takes something out raises it, with `comment on schema`.
_OLDEST_SERVED = text(
    "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = :schema"
).bindparams(schema=SCHEMA)
# A restart of Postgres within so short a rest is an error that the step's next attempt does not see.
_TRUSTED_SECONDS = 5

_FACTS = text("select current_setting('server_version'), clock_timestamp()")

# Quoted, and empty where the login is the owner, or is not allowed to become it.
_OWNER = text("""
    select case when nspowner <> current_user::regrole and pg_has_role(current_user, nspowner, 'member')
    then nspowner::regrole::text else '' end
    from pg_namespace where nspname = :schema
""").bindparams(schema=SCHEMA)


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
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size}
    engine = create_async_engine(
        address,
        **(pool if pool_size else {"poolclass": NullPool}),
        hide_parameters=True,  # prompts are parameters, and errors end up in logs
        connect_args={"application_name": "overnight", "options": "-c timezone=utc", "connect_timeout": 10},
    )
    _ask_after_rest(engine)
    return engine


def _ask_after_rest(engine: AsyncEngine) -> None:
    """Have a connection that has rested asked whether it still lives, before it is used.

    SQLAlchemy's `pool_pre_ping` asks every time, which was a sixth of what a poll says to Postgres.
    """

    @listens_for(engine.sync_engine, "checkin")
    def note(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    @listens_for(engine.sync_engine, "checkout")
    def ask(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < _TRUSTED_SECONDS:
            return
        dialect = engine.sync_engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            # All that rested as long are as dead; the pool opens new ones, and the caller notices nothing.
            raise InvalidatePoolError from error


def autocommitting(engine: AsyncEngine) -> AsyncEngine:
    """The same connections without a transaction around them: a statement that stands alone goes to Postgres without
    BEGIN before it and COMMIT behind it, which are a round trip each.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")


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
async def reachable(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection; a server that is not there is an error that names it.

    Raises:
        DatabaseError: Postgres does not answer.
    """
    where = engine.url.render_as_string(hide_password=True)
    try:
        async with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, OSError) as error:
        cause = error.orig if isinstance(error, OperationalError | InterfaceError) else error
        raise DatabaseError(
            f"Postgres does not answer at {where}: {' '.join(str(cause).split()).rstrip('.?')}. "
            f"Check OVERNIGHT_DATABASE_URL and that the server runs; `overnight dev` starts one for development."
        ) from None
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise DatabaseError(
            f"Postgres at {where} does not let this login do that: {str(error.orig).strip()}. Take one that is a "
            f"member of the role for it; `overnight db roles` has them all."
        ) from None


def _version(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


async def schema_version(engine: AsyncEngine) -> str | None:
    """The schema version of the database, or None when there is no schema yet.

    Raises:
        DatabaseError: Postgres does not answer.
    """
    async with reachable(engine) as connection:
        return await connection.run_sync(_version)


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What a server says of itself."""

    version: str
    now: datetime


async def server_facts(engine: AsyncEngine) -> ServerFacts:
    """Which Postgres this is, and what time it is there.

    Raises:
        DatabaseError: it does not answer.
    """
    async with reachable(engine) as connection:
        version, now = (await connection.execute(_FACTS)).one()
    return ServerFacts(version=version, now=now)


async def _serves(engine: AsyncEngine, version: str) -> bool:
    async with reachable(engine) as connection:
        said = (await connection.execute(_OLDEST_SERVED)).scalar_one_or_none()
    found = re.fullmatch(r"serves code from (\d{4})", said or "")
    return found is not None and found[1] <= version


async def check_schema(engine: AsyncEngine) -> None:
    """Make sure that the database fits this code. A newer schema does, as long as nothing was taken out of it that this
    code needs: the old version's processes live beside the new one's, and a release can be rolled back.

    Raises:
        DatabaseError: Postgres does not answer.
        SchemaVersionError: the schema is absent, older, or newer and says that it does not serve this code.
    """
    found, wanted = await schema_version(engine), head_version()
    if found == wanted:
        return
    if found is None or found in _known_versions() or not await _serves(engine, wanted):
        raise SchemaVersionError(
            f"The database has schema version {found or 'none'}, this code needs {wanted}. "
            f"Run `overnight db upgrade`; if the database is ahead of the code, deploy the newer code instead."
        )


def _become_owner(connection: Connection) -> None:
    """Whichever login migrates: what it makes belongs to the schema's owner, as all the rest does. A login that may not
    create schemas is fine with one that exists.
    """
    owner = connection.execute(_OWNER).scalar_one_or_none()
    if owner is None:
        connection.execute(text(f"create schema {SCHEMA}"))
    elif owner:
        connection.execute(text(f"set local role {owner}"))


def _upgrade(connection: Connection) -> None:
    _become_owner(connection)
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
    async with reachable(engine) as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        # Alembic imports its scripts; that must not stop other work on the loop for good, and it does not take long.
        await connection.run_sync(_upgrade)
        await connection.commit()
    logger.info("schema is at version %s", head_version(), extra={"event": LogEvent.SCHEMA_UPGRADED})
    await asyncio.sleep(0)
    return head_version()


WITHOUT_WAITING = text("set local synchronous_commit to off")
"""For a transaction that may be lost in a crash of Postgres as a whole, as long as a later one waits for the disk: that
one says whether all before it are there, and so has to look (PostgreSQL's manual, asynchronous commit).
"""


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


async def fetching(
    connection: AsyncConnection, query: Composed, *parameters: object, **named: object
) -> list[tuple[Any, ...]]:
    """Rows in the binary protocol, on the driver's own connection: in arrays, texts come without quoting then."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, PsycopgConnection)
    async with driver.cursor(binary=True) as cursor:
        await cursor.execute(query, named or parameters)
        return await cursor.fetchall()
