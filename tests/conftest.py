"""The stack for tests: real servers once per test process, and for each test a database, a task queue and a provider of
its own. Nothing here is shared between two tests but the servers themselves.
"""

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import Services
from overnight.client import Overnight
from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages, running
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from worker import compose

_TEMPLATE = "overnight_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread, for what outlives the loop of a single test."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def postgres(portal: BlockingPortal) -> Iterator[EmbeddedPostgres]:
    """A running Postgres that forgets everything, with a migrated template database."""
    server = EmbeddedPostgres(durable=False, settings={"max_connections": "200"})
    portal.call(server.start)
    try:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"create database {_TEMPLATE}")
        portal.call(_migrate, _url(server, _TEMPLATE))
        yield server
    finally:
        portal.call(server.stop)


def _url(server: EmbeddedPostgres, database: str) -> str:
    return server.dsn.rpartition("/")[0] + f"/{database}"


async def _migrate(url: str) -> None:
    store = Store.from_settings(Settings(database_url=SecretStr(url)))
    await store.upgrade()
    await store.aclose()


@pytest.fixture(scope="session")
def temporal_server(portal: BlockingPortal) -> Iterator[EmbeddedTemporal]:
    """A running Temporal dev server, in memory, with timers that are exact to 10 ms instead of a second."""
    server = EmbeddedTemporal(dynamic_config={"history.timerProcessorMaxTimeShift": "10ms"})
    portal.call(server.start)
    try:
        yield server
    finally:
        portal.call(server.stop)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"create database {name} template {_TEMPLATE}")
        yield _url(postgres, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    store = Store.from_settings(Settings(database_url=SecretStr(database_url)))
    yield store
    await store.aclose()


@pytest.fixture
def simulator_config() -> SimulatorConfig:
    """How this test's simulator behaves; override the fixture to change it."""
    return SimulatorConfig(stages=Stages(validating=0.1, in_progress=0.4, finalizing=0.1, canceling=0.2))


@pytest.fixture
def simulator(simulator_config: SimulatorConfig) -> Iterator[Running]:
    """The provider simulator of this test's own."""
    with running(simulator_config) as simulator:
        yield simulator


@pytest.fixture
def settings(database_url: str, simulator: Running) -> Settings:
    """A deployment of this test's own: database, provider, task queue."""
    return Settings(
        database_url=SecretStr(database_url),
        task_queue=f"overnight-{secrets.token_hex(4)}",
        poll_waits=(timedelta(seconds=0.2),),
        openai_api_key=SecretStr("sk-test-openai"),
        openai_base_url=simulator.openai_base_url,
        anthropic_api_key=SecretStr("sk-test-anthropic"),
        anthropic_base_url=simulator.anthropic_base_url,
    )


@pytest.fixture
async def temporal(temporal_server: EmbeddedTemporal) -> AsyncIterator[Client]:
    """A client of the dev server."""
    yield await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)
    await asyncio.sleep(0.05)  # sdk-python issue 300: a process must not end right after the last call


@pytest.fixture
async def overnight(settings: Settings, store: Store, temporal: Client) -> Overnight:
    """The client that users have, on this test's deployment."""
    return Overnight(settings=settings, store=store, temporal=temporal)


@pytest.fixture
async def worker(settings: Settings, temporal: Client) -> AsyncIterator[None]:
    """A worker of this test's deployment, in this process."""
    services = Services(settings, Store.from_settings(settings))
    async with compose(temporal, services):
        yield
    await services.aclose()
