"""Connections that Postgres closed while nobody used them, and statements that go to it by themselves."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.storage import database
from overnight.storage.database import autocommitting, create_engine

_BACKEND = text("select pg_backend_pid()")


async def backend(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(_BACKEND)).scalar_one())


async def hang_up(engine: AsyncEngine, pid: int) -> None:
    """As a restart of Postgres does, from another connection, and wait until it is gone."""
    async with engine.connect() as connection:
        assert (await connection.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})).scalar_one()


async def test_a_connection_that_died_while_it_rested_is_replaced_unseen(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_TRUSTED_SECONDS", 0)
    pid = await backend(engine)
    other = create_engine(engine.url.render_as_string(hide_password=False))
    await hang_up(other, pid)
    await other.dispose()
    assert await backend(engine) != pid


async def test_one_that_was_used_just_now_is_not_asked_and_its_death_is_an_error_once(engine: AsyncEngine) -> None:
    pid = await backend(engine)
    other = create_engine(engine.url.render_as_string(hide_password=False))
    await hang_up(other, pid)
    await other.dispose()
    with pytest.raises(OperationalError):
        await backend(engine)
    assert await backend(engine) != pid


async def test_a_statement_that_stands_alone_needs_no_transaction_and_leaves_none_behind(engine: AsyncEngine) -> None:
    status = text("select now() = statement_timestamp(), pg_current_xact_id_if_assigned() is null")
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
        assert (await connection.execute(status)).one()[0] is False, "a transaction keeps its time"
    async with autocommitting(engine).connect() as connection:
        await connection.execute(text("select 1"))
        assert (await connection.execute(status)).one()[0] is True
    async with engine.begin() as connection:
        await connection.execute(text("select 1"))
        assert (await connection.execute(status)).one()[0] is False, "the next one on this connection is one again"
