import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overnight.cli.dev import _follow, _impatience, exports_of
from overnight.cli.environment import (
    local_environment,
    provider_variables,
    simulator_addresses,
    without_keys,
)
from overnight.errors import EmbeddedServerError
from overnight.simulator.serve import Running

ADDRESSES = {"openai": "http://127.0.0.1:8430/v1", "anthropic": "http://127.0.0.1:8430"}


def test_a_provider_with_a_key_is_not_simulated() -> None:
    assert without_keys({}) == ["openai", "anthropic"]
    assert without_keys({"OPENAI_API_KEY": "sk-real"}) == ["anthropic"]
    assert without_keys({"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "sk-real"}) == ["openai"]


def test_only_simulated_providers_get_the_simulators_address() -> None:
    assert provider_variables(ADDRESSES, ["anthropic"]) == {
        "ANTHROPIC_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8430",
    }


def test_the_simulators_address_is_read_from_what_it_says_when_it_is_ready() -> None:
    log = f"some warning\n{Running(url='http://127.0.0.1:8430').ready_line()}\n"
    assert simulator_addresses(log) == ADDRESSES


def test_the_users_own_temporal_settings_do_not_reach_servers_of_ours() -> None:
    given = {"TEMPORAL_API_KEY": "secret", "TEMPORAL_PROFILE": "cloud", "HOME": "/home/me"}
    environment = local_environment(given, {"TEMPORAL_ADDRESS": "127.0.0.1:7233"})
    assert environment["HOME"] == "/home/me"
    assert {name: value for name, value in environment.items() if name.startswith("TEMPORAL_")} == {
        "TEMPORAL_ADDRESS": "127.0.0.1:7233",
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }


def test_loopback_is_reached_without_the_users_proxy() -> None:
    environment = local_environment({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "intranet"}, {})
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_what_a_script_needs_is_said_in_the_shells_words() -> None:
    assert exports_of({"A": "1", "B": "two"}) == "export A='1'\nexport B='two'\n"


def test_development_polls_quickly_only_while_nothing_real_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERNIGHT_POLL_WAITS", raising=False)
    assert _impatience(["openai", "anthropic"]) == {"OVERNIGHT_POLL_WAITS": "1,2,5"}
    assert _impatience(["openai"]) == {}

    monkeypatch.setenv("OVERNIGHT_POLL_WAITS", "60")
    assert _impatience(["openai", "anthropic"]) == {}


async def test_what_the_worker_says_is_shown_from_this_start_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_if_ended() -> None:
        raise EmbeddedServerError("It has ended.")

    earlier, log = "stopping: that was yesterday\n", tmp_path / "worker.log"
    log.write_text(f"{earlier}worker is ready\n")
    worker = SimpleNamespace(program=SimpleNamespace(log_file=log), log_start=len(earlier))
    local: Any = SimpleNamespace(worker=worker, raise_if_ended=raise_if_ended)
    with pytest.raises(EmbeddedServerError):
        await _follow(local)
    assert capsys.readouterr().out == "worker is ready\n"
