"""The stage of the acceptance tests: a provider whose clock the test moves, and activities run one by one."""

from tests.acceptance.conftest import account, simulator_config, steps

__all__ = ["account", "simulator_config", "steps"]
