"""The worker as a process: how it starts, what it says when it cannot, and how it stops."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal, ManagedProcess, Program

WORKER = Path(__file__).parents[2] / "worker.py"
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def environment(database_url: str, temporal_server: EmbeddedTemporal) -> Mapping[str, str]:
    """Everything that a worker needs."""
    return {
        "PATH": os.environ["PATH"],
        "OVERNIGHT_DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": temporal_server.address,
        "OPENAI_API_KEY": "sk-test",
    }


async def run_to_end(environment: Mapping[str, str], *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    return process.returncode, error.decode()


async def test_without_a_database_setting_it_names_the_variable() -> None:
    code, text = await run_to_end({"PATH": os.environ["PATH"]})

    assert code == 2
    assert "OVERNIGHT_DATABASE_URL" in text
    assert "Traceback" not in text


async def test_a_senseless_setting_is_named(environment: Mapping[str, str]) -> None:
    code, text = await run_to_end({**environment, "OVERNIGHT_MAX_AGE": "soon"})

    assert code == 2
    assert "OVERNIGHT_MAX_AGE" in text
    assert "Traceback" not in text


async def test_a_database_that_does_not_answer_is_named(environment: Mapping[str, str]) -> None:
    code, text = await run_to_end({**environment, "OVERNIGHT_DATABASE_URL": f"postgresql://me:secret@{NOWHERE}/db"})

    assert code == 1
    assert NOWHERE in text
    assert "secret" not in text
    assert "Traceback" not in text


async def test_a_database_without_our_schema_asks_for_the_upgrade(
    environment: Mapping[str, str], database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("drop schema overnight cascade")

    code, text = await run_to_end(environment)

    assert code == 1
    assert "overnight db upgrade" in text
    assert "Traceback" not in text


async def test_a_temporal_server_that_does_not_answer_is_named(environment: Mapping[str, str]) -> None:
    code, text = await run_to_end({**environment, "TEMPORAL_ADDRESS": NOWHERE})

    assert code == 1
    assert f"Temporal does not answer at {NOWHERE}" in text
    assert "Traceback" not in text


async def test_a_namespace_that_is_not_there_is_named(environment: Mapping[str, str]) -> None:
    code, text = await run_to_end({**environment, "TEMPORAL_NAMESPACE": "elsewhere"})

    assert code == 1
    assert "'elsewhere'" in text
    assert "Traceback" not in text


async def test_a_module_that_does_not_import_is_named(environment: Mapping[str, str]) -> None:
    code, text = await run_to_end(environment, "--import", "no_such_module")

    assert code == 2
    assert "Cannot import 'no_such_module'" in text
    assert "Traceback" not in text


async def test_a_profile_of_temporals_own_configuration_file_is_used(
    environment: Mapping[str, str], temporal_server: EmbeddedTemporal, tmp_path: Path
) -> None:
    profile = tmp_path / "temporal.toml"
    profile.write_text(f'[profile.night]\naddress = "{temporal_server.address}"\nnamespace = "unheard-of"\n')
    without_address = {name: value for name, value in environment.items() if name != "TEMPORAL_ADDRESS"}

    code, text = await run_to_end(
        {**without_address, "TEMPORAL_CONFIG_FILE": str(profile), "TEMPORAL_PROFILE": "night"}
    )

    assert code == 1
    assert "'unheard-of'" in text


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_in_good_order_when_asked(
    environment: Mapping[str, str], postgres: EmbeddedPostgres, tmp_path: Path, signum: signal.Signals
) -> None:
    program = Program(
        name="worker",
        argv=[sys.executable, str(WORKER)],
        log_file=tmp_path / "worker.log",
        env=environment,
        stop_signal=signum,
    )
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches("worker is ready"), timeout=timedelta(seconds=60))
        process.send_signal(signum)
        assert await process.wait() == 0
        assert "stopping" in process.log_text()


async def test_it_serves_one_part_alone_when_asked(environment: Mapping[str, str], tmp_path: Path) -> None:
    program = Program(
        name="worker",
        argv=[sys.executable, str(WORKER), "--only", "bulk"],
        log_file=tmp_path / "worker.log",
        env=environment,
    )
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches("worker is ready"), timeout=timedelta(seconds=60))
        assert "task queue overnight-bulk, namespace" in process.log_text()
