"""The stack for tests: real servers once per test process, and for each test a database, a task queue and a provider of
its own. Nothing here is shared between two tests but the servers themselves.

The servers and databases are those of `overnight.testing.pytest`, which users have too. What stands on them is put
together here, piece by piece, for tests that want only some of it: a client without a worker, say.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import hypothesis
import pytest
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

pytest_plugins = ["overnight.testing.pytest"]

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

_LONG = Path(__file__).parent / "chaos"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: one that began last would keep a process of pytest-xdist busy while the others are idle.

    It deals each process a share of consecutive tests, as large as all others, so each share begins with long ones.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes == 1:
        return
    long = [item for item in items if item.path.is_relative_to(_LONG)]
    short = [item for item in items if not item.path.is_relative_to(_LONG)]
    ordered: list[pytest.Item] = []
    for number in range(processes):
        end = len(ordered) + (len(items) - len(ordered)) // (processes - number)
        ordered += long[number::processes]
        rest = end - len(ordered)
        ordered, short = ordered + short[:rest], short[rest:]
    items[:] = ordered


@pytest.fixture(scope="session")
def postgres(overnight_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """A running Postgres that forgets everything."""
    return overnight_postgres


@pytest.fixture(scope="session")
def temporal_server(overnight_temporal: EmbeddedTemporal) -> EmbeddedTemporal:
    """A running Temporal dev server, in memory."""
    return overnight_temporal


@pytest.fixture
def database_url(overnight_database_url: str) -> str:
    """A migrated database of this test's own."""
    return overnight_database_url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    store = Store.from_settings(Settings(database_url=SecretStr(database_url)))
    yield store
    await store.aclose()


@pytest.fixture
def simulator_config(request: pytest.FixtureRequest) -> SimulatorConfig:
    """How this test's simulator behaves; override the fixture to change it."""
    in_progress = 10_000 if request.node.get_closest_marker("slow_provider") else 0.4
    return SimulatorConfig(stages=Stages(validating=0.1, in_progress=in_progress, finalizing=0.1, canceling=0.2))


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
        results_settle=timedelta(0),  # a line that the simulator leaves out never comes
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
