"""Postgres roles: what each kind of process may do in our schema. What they are granted is in `roles.sql`."""

import re
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.errors import UsageError
from overnight.storage.database import reachable

DEFAULT_PREFIX = "overnight"

_SCRIPT = Path(__file__).with_name("roles.sql")
_NAMES = re.compile(r"\bovernight_(migrations|worker|client|reader)\b")
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,47}")


def roles_sql(prefix: str = DEFAULT_PREFIX) -> str:
    """The script for one deployment. Roles belong to a whole Postgres server: two deployments on one need two prefixes.

    Raises:
        UsageError: the prefix makes no role names.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"The prefix {prefix!r} makes no role names: use up to 48 of a to z, 0 to 9 and '_'.")
    return _NAMES.sub(rf"{prefix}_\1", _SCRIPT.read_text(encoding="utf-8"))


async def apply_roles(engine: AsyncEngine, prefix: str = DEFAULT_PREFIX) -> None:
    """Run it, as a whole or not at all.

    Raises:
        DatabaseError: Postgres does not answer.
        UsageError: the prefix makes no role names.
    """
    script = roles_sql(prefix)
    async with reachable(engine) as connection:
        # As in migrations: `%` is no parameter here.
        await connection.exec_driver_sql(script.replace("%", "%%"))
        await connection.commit()
