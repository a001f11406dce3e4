"""The acceptance cases that no other floor covers: the provider seen from its own side, and the steps taken by hand."""

from collections.abc import AsyncIterator

import httpx
import pytest

from activities import Services
from overnight import Overnight
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from tests.acceptance.stage import AtTheProvider, Steps


@pytest.fixture
def simulator_config() -> SimulatorConfig:
    """Nothing ends by itself: tests move the simulator's clock."""
    return SimulatorConfig(stages=Stages(validating=10, in_progress=1000, finalizing=10, canceling=10))


@pytest.fixture
async def account(simulator: Running) -> AsyncIterator[AtTheProvider]:
    """What the provider does and knows."""
    async with httpx.AsyncClient(base_url=simulator.url, timeout=30) as http:
        yield AtTheProvider(http)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """What one worker has."""
    services = Services(settings, Store.from_settings(settings))
    yield services
    await services.aclose()


@pytest.fixture
def steps(services: Services, overnight: Overnight) -> Steps:
    """The activities, run one by one, without a workflow."""
    return Steps(overnight, services)
