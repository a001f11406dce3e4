"""What the pages on operations say of numbers, names and files is what the code has."""

import re
import tomllib
from pathlib import Path

import pytest
from temporalio.envconfig import ClientConfig

from overnight.attributes import KINDS
from overnight.errors import TemporalError
from overnight.handling import process
from overnight.schedule import DEFAULT_MAX_AGE, DEFAULT_WAITS
from overnight.settings import Settings
from overnight.storage import submissions
from overnight.temporal import connect_temporal
from tests.docs.blocks import DOCS, blocks

DEPLOY, CAPACITY = DOCS / "operations" / "deploy.md", DOCS / "operations" / "capacity.md"
PROFILES = [block.code for block in blocks(DEPLOY) if block.language == "toml"]


@pytest.mark.parametrize("code", PROFILES, ids=["api key", "mtls"])
def test_temporal_reads_the_configuration_files_as_they_are_shown(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("a certificate")
    (tmp_path / "temporal.toml").write_text(code.replace("/run/secrets/temporal", str(tmp_path)))
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    monkeypatch.delenv("TEMPORAL_NAMESPACE", raising=False)
    shown, read = tomllib.loads(code)["profile"]["default"], ClientConfig.load_client_connect_config()

    assert (read.get("target_host"), read.get("namespace")) == (shown["address"], shown["namespace"])
    assert read.get("api_key") == shown.get("api_key")
    assert read.get("tls")


async def test_a_certificate_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "absent.crt"))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", str(tmp_path / "absent.key"))

    with pytest.raises(TemporalError, match=r"configuration makes no sense: .*absent\.crt"):
        await connect_temporal(Settings())


def test_the_attributes_that_an_administrator_registers_are_ours() -> None:
    assert dict(re.findall(r"--search-attribute (\w+)=(\w+)", DEPLOY.read_text())) == KINDS


def test_the_capacity_page_has_the_numbers_of_the_code() -> None:
    text = CAPACITY.read_text()
    minutes = [int(wait.total_seconds() // 60) for wait in DEFAULT_WAITS]
    regular = -(-int(DEFAULT_MAX_AGE.total_seconds()) // int(DEFAULT_WAITS[-1].total_seconds()))

    assert f"| {process.SHORT_AT_ONCE} | slots" in text
    assert f"| {process.BULK_AT_ONCE}, of which {submissions._AT_ONCE} may be sending" in text
    assert f"| {Settings().cached_workflows:,}, or" in text
    assert f"{minutes[0]}, {minutes[1]}, {minutes[2]} and {minutes[3]} minutes, then every {minutes[4]}" in text
    assert f"{regular} + {len(minutes) - 1} = {regular + len(minutes) - 1} times" in text


def test_the_capacity_page_takes_its_figures_from_the_benchmarks() -> None:
    measured = (DOCS.parent / "benchmarks" / "README.md").read_text()

    for figure in (
        "38.4 MiB",
        "64 MiB",
        "31,700",
        "91,300",
        "81,600",
        "188,000",
        "11 µs",
        "7 µs",
        "18 µs",
        "26 µs",
        "3.9 s",
        "137 kB",
        "14 a second",
        "6.9 a second",
        "0.13 s",
    ):
        assert figure in CAPACITY.read_text(), figure
        assert figure in measured, figure
