"""The environment of processes that belong to servers on this machine: a pure function of the one we were given."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from overnight.embedded import LOOPBACK

SIMULATED_KEY = "simulated"

_READY = re.compile(r"OPENAI_BASE_URL=(\S+) ANTHROPIC_BASE_URL=(\S+)")


@dataclass(frozen=True, kw_only=True)
class Variables:
    """The names under which a provider's key and address are set."""

    key: str
    base_url: str


PROVIDERS: Mapping[str, Variables] = {
    "openai": Variables(key="OPENAI_API_KEY", base_url="OPENAI_BASE_URL"),
    "anthropic": Variables(key="ANTHROPIC_API_KEY", base_url="ANTHROPIC_BASE_URL"),
}


def without_keys(environment: Mapping[str, str]) -> list[str]:
    """The providers that have no key of the user's: those that a simulator may stand in for."""
    return [name for name, variables in PROVIDERS.items() if not environment.get(variables.key)]


def simulator_addresses(log: str) -> dict[str, str]:
    """The base URL of each provider, from the line that the simulator prints when it is ready."""
    found = _READY.search(log)
    assert found is not None, "only asked once the simulator is ready"
    return {"openai": found[1], "anthropic": found[2]}


def server_variables(*, database_url: str, temporal_address: str, namespace: str) -> dict[str, str]:
    """Where the servers are."""
    return {
        "OVERNIGHT_DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": temporal_address,
        "TEMPORAL_NAMESPACE": namespace,
    }


def provider_variables(addresses: Mapping[str, str], simulated: Collection[str]) -> dict[str, str]:
    """A key and an address for each provider that is simulated."""
    variables = {}
    for name in simulated:
        variables[PROVIDERS[name].key] = SIMULATED_KEY
        variables[PROVIDERS[name].base_url] = addresses[name]
    return variables


def local_environment(given: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """What a process that works on our servers gets.

    The user's own Temporal settings are for the user's own servers, and a key or a certificate of theirs would be in
    the way here. A proxy, where one is set, must not be asked for addresses on loopback.
    """
    kept = {name: value for name, value in given.items() if not name.startswith("TEMPORAL_")}
    direct = ",".join(filter(None, [given.get("NO_PROXY") or given.get("no_proxy"), LOOPBACK, "localhost"]))
    # An empty file in place of the user's profiles.
    return {**kept, **variables, "NO_PROXY": direct, "no_proxy": direct, "TEMPORAL_CONFIG_FILE": os.devnull}
