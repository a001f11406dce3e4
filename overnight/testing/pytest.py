"""Fixtures for tests over the whole stack: real servers, a worker in this process, and a provider that is simulated.

Load them in the `conftest.py` at the root of your tests::

    pytest_plugins = ["overnight.testing.pytest"]

A test then takes `overnight`, the client, behind which everything runs, and `overnight_simulator`, the provider::

    async def test_reviews_are_saved(overnight, overnight_simulator):
        overnight_simulator.answer("r-1", {"label": "good"})
        batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=SaveSentiments)
        await batch.add(Classify(review="fine"), custom_id="r-1")
        await batch.submit()
        finished = await batch.wait()
        assert finished.outcomes == {Outcome.SUCCEEDED: 1}

Postgres and Temporal start once per test process and end with it, whatever ends it; each test has a database, a task
queue and a provider of its own. All fixtures are synchronous, so any asyncio plugin of pytest will do. The worker has a
thread and an event loop of its own, as it has a process of its own in production.

Two fixtures are there to be overridden: `overnight_simulator_config`, for how the provider behaves, and
`overnight_prepare_database`, for tables of your own.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from overnight.attributes import KINDS
from overnight.cli.environment import PROVIDERS, local_environment, provider_variables, server_variables
from overnight.client import Overnight
from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages, running
from overnight.storage.clones import create_database, drop_database, url_of
from overnight.storage.store import Store
from overnight.temporal import connect_temporal
from overnight.testing.application import working
from overnight.testing.client import Troubles, WatchedOvernight
from overnight.testing.simulator import Callables, SimulatorControl

_TEMPLATE = "overnight_template"
_QUICKLY = {
    "OVERNIGHT_POLL_WAITS": "0.1",
    # The simulator's lists lag behind only where a test wants them to.
    "OVERNIGHT_LIST_SETTLES": "0.5",
    # A line that the simulator leaves out never comes.
    "OVERNIGHT_RESULTS_SETTLE": "0",
    # What a handler raises is what a failing test has to show.
    "OVERNIGHT_LOG_ERROR_TEXTS": "true",
}


@pytest.fixture(scope="session")
def overnight_portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread, for what outlives the loop of a single test."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def overnight_postgres(overnight_portal: BlockingPortal) -> Iterator[EmbeddedPostgres]:
    """A running Postgres that forgets everything."""
    server = EmbeddedPostgres(durable=False, settings={"max_connections": "200"})
    with overnight_portal.wrap_async_context_manager(server):
        yield server


@pytest.fixture(scope="session")
def overnight_temporal(overnight_portal: BlockingPortal) -> Iterator[EmbeddedTemporal]:
    """A running Temporal dev server, in memory, with timers that are exact to 10 ms instead of a second."""
    server = EmbeddedTemporal(search_attributes=KINDS, dynamic_config={"history.timerProcessorMaxTimeShift": "10ms"})
    with overnight_portal.wrap_async_context_manager(server):
        yield server


@pytest.fixture(scope="session")
def overnight_prepare_database() -> Callable[[str], None]:
    """Override it for tables of your own: what it returns is called once, with the URL of the database that those of
    all tests are cloned from.
    """
    return lambda _url: None


@pytest.fixture(scope="session")
def overnight_template(
    overnight_postgres: EmbeddedPostgres,
    overnight_portal: BlockingPortal,
    overnight_prepare_database: Callable[[str], None],
) -> str:
    """The name of a migrated database, which nobody connects to any more."""
    url = overnight_portal.call(create_database, overnight_postgres.dsn, _TEMPLATE)
    overnight_portal.call(_migrate, url)
    overnight_prepare_database(url)
    return _TEMPLATE


async def _migrate(url: str) -> None:
    store = Store.from_settings(Settings(database_url=SecretStr(url)), pooled=False)
    await store.upgrade()


@pytest.fixture
def overnight_database_url(
    overnight_postgres: EmbeddedPostgres, overnight_portal: BlockingPortal, overnight_template: str
) -> Iterator[str]:
    """A migrated database of this test's own, as a `postgresql://` URL."""
    name = f"test_{secrets.token_hex(6)}"
    overnight_portal.call(lambda: create_database(overnight_postgres.dsn, name, template=overnight_template))
    yield url_of(overnight_postgres.dsn, name)
    overnight_portal.call(drop_database, overnight_postgres.dsn, name)


@pytest.fixture
def overnight_simulator_config() -> SimulatorConfig:
    """How this test's provider behaves; override it for longer stages, limits, or a responder of your own."""
    return SimulatorConfig(stages=Stages(validating=0.05, in_progress=0.1, finalizing=0.05, canceling=0.05))


@pytest.fixture
def overnight_simulator(
    overnight_simulator_config: SimulatorConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimulatorControl]:
    """The provider of this test's own. What a callable raises that answers for it is raised when the test is over."""
    callables = Callables(overnight_simulator_config.responder)
    # Among pytest's own temporary folders, which pytest clears away in time, also those of a run that was killed.
    folder = overnight_simulator_config.state_dir or tmp_path_factory.mktemp("simulator")
    with running(replace(overnight_simulator_config, responder=callables, state_dir=folder)) as where:
        yield SimulatorControl(where.url, callables)
    for error in callables.errors:
        raise error


@pytest.fixture
def overnight_environment(
    overnight_database_url: str,
    overnight_temporal: EmbeddedTemporal,
    overnight_simulator: SimulatorControl,
    monkeypatch: pytest.MonkeyPatch,
) -> Mapping[str, str]:
    """The variables of this test's own deployment, set in `os.environ`, and those of any other taken away.

    Code under test that calls `Overnight.connect()` reaches the test's stack by them; and no test reaches a real
    provider with the key of whoever runs it.
    """
    addresses = {"openai": overnight_simulator.openai_base_url, "anthropic": overnight_simulator.anthropic_base_url}
    ours = {
        **_QUICKLY,
        **server_variables(
            database_url=overnight_database_url,
            temporal_address=overnight_temporal.address,
            namespace=overnight_temporal.namespace,
        ),
        **provider_variables(addresses, PROVIDERS),
        "OVERNIGHT_TASK_QUEUE": f"overnight-{secrets.token_hex(4)}",
    }
    given = {name: value for name, value in os.environ.items() if not name.startswith("OVERNIGHT_")}
    _become(local_environment(given, ours), monkeypatch)
    return ours


def _become(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)


@pytest.fixture
def overnight_settings(overnight_environment: Mapping[str, str]) -> Settings:
    """The settings of this test's own deployment."""
    assert overnight_environment
    return Settings.from_environment()


@pytest.fixture
def overnight_worker(overnight_settings: Settings, overnight_portal: BlockingPortal) -> Iterator[Troubles]:
    """A worker of this test's own deployment, in this process; gives what hears of its troubles."""
    troubles = Troubles()
    with overnight_portal.wrap_async_context_manager(working(overnight_settings, [troubles])):
        yield troubles


@pytest.fixture
def overnight(overnight_settings: Settings, overnight_worker: Troubles, overnight_portal: BlockingPortal) -> Overnight:
    """The client, with everything behind it. Its `wait` raises StuckBatchError where a batch needs somebody's help."""
    # Without a pool: its connections would belong to the test's event loop, which is gone when fixtures end.
    store = Store.from_settings(overnight_settings, pooled=False)
    temporal = overnight_portal.call(connect_temporal, overnight_settings)
    return WatchedOvernight(settings=overnight_settings, store=store, temporal=temporal, troubles=overnight_worker)
