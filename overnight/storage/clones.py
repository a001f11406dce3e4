"""Databases that come and go: one for each test, cloned from a template that was migrated once."""

from psycopg import AsyncConnection, sql
from sqlalchemy import make_url


def url_of(server_url: str, database: str) -> str:
    """The address of another database on the same server."""
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


async def create_database(server_url: str, name: str, *, template: str = "template1") -> str:
    """Create a database and return its address. The template must have no connections at the moment."""
    create = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
    await _execute(server_url, create)
    return url_of(server_url, name)


async def drop_database(server_url: str, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    await _execute(server_url, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def _execute(server_url: str, statement: sql.Composed) -> None:
    async with await AsyncConnection.connect(server_url, autocommit=True) as connection:
        await connection.execute(statement)
