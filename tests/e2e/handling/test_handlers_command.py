"""`overnight handlers`: how it starts, fails and stops."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program

COMMAND = [sys.executable, "-m", "overnight.cli", "handlers", "--task-queue", "my-app"]
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def environment(database_url: str, temporal_server: EmbeddedTemporal) -> Mapping[str, str]:
    """Everything that handlers need, and no provider's key."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OVERNIGHT_DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": temporal_server.address,
    }


async def run_to_end(environment: Mapping[str, str], *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    return process.returncode, error.decode()


WRONG: dict[str, tuple[dict[str, str], list[str], int, str]] = {
    "a module that does not import": ({}, ["--import", "no_such_module"], 2, "Cannot import 'no_such_module'"),
    "a database that does not answer": ({"OVERNIGHT_DATABASE_URL": f"postgresql://{NOWHERE}/d"}, [], 1, NOWHERE),
    "a Temporal that does not answer": ({"TEMPORAL_ADDRESS": NOWHERE}, [], 1, f"Temporal does not answer at {NOWHERE}"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_keeps_it_from_starting_is_named(environment: Mapping[str, str], wrong: str) -> None:
    variables, arguments, code, named = WRONG[wrong]
    ended, text = await run_to_end({**environment, **variables}, *arguments)

    assert ended == code
    assert named in text
    assert "Traceback" not in text


async def test_it_stops_in_good_order_when_asked(environment: Mapping[str, str], tmp_path: Path) -> None:
    program = Program(name="handlers", argv=COMMAND, log_file=tmp_path / "handlers.log", env=environment)
    async with await ManagedProcess.start(program) as process:
        ready = process.log_matches("handlers are ready: task queue my-app, namespace default")
        await process.wait_until_ready(ready, timeout=timedelta(seconds=60))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert "stopping" in process.log_text()
