"""The database, from the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from overnight.settings import Settings
from overnight.storage.store import Store


async def upgrade(settings: Settings | None = None) -> str:
    """Bring the schema to this code's version and return it.

    Raises:
        ConfigurationError: no database is set.
        DatabaseError: it does not answer.
    """
    store = Store.from_settings(settings or Settings.from_environment())
    try:
        return await store.upgrade()
    finally:
        await store.aclose()


async def apply_roles(prefix: str) -> None:
    """Make the Postgres roles.

    Raises:
        ConfigurationError: no database is set.
        DatabaseError: it does not answer, or the login may not do this.
        UsageError: the prefix makes no role names.
    """
    store = Store.from_settings(Settings.from_environment())
    try:
        await store.apply_roles(prefix)
    finally:
        await store.aclose()


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    """The store that the environment names, with a schema that fits; Temporal is not asked.

    Raises:
        ConfigurationError: no database is set.
        DatabaseError: it does not answer.
        SchemaVersionError: its schema is not this code's.
    """
    store = Store.from_settings(Settings.from_environment())
    try:
        await store.check()
        yield store
    finally:
        await store.aclose()
