"""The stage of the acceptance tests: a provider whose clock the test moves, and activities run one by one."""

from tests.acceptance.conftest import account, services, simulator_config, steps

__all__ = ["account", "services", "simulator_config", "steps"]
