"""The README's example, run the way its reader would: a worker process that imports it, and the script."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program
from overnight.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sentiment.py"


@pytest.fixture
def environment(settings: Settings, temporal_server: EmbeddedTemporal) -> Mapping[str, str]:
    """What the reader exports before running the two commands."""
    assert settings.database_url is not None
    assert settings.anthropic_api_key is not None
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(EXAMPLE.parent),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "OVERNIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "OVERNIGHT_POLL_WAITS": "0.2",
        "ANTHROPIC_API_KEY": settings.anthropic_api_key.get_secret_value(),
        "ANTHROPIC_BASE_URL": settings.anthropic_base_url,
    }


async def test_the_example_of_the_readme_runs_beside_a_worker(
    environment: Mapping[str, str], settings: Settings, tmp_path: Path
) -> None:
    worker = Program(
        name="worker",
        argv=[sys.executable, str(ROOT / "worker.py"), "--import", "sentiment"],
        log_file=tmp_path / "worker.log",
        env=environment,
    )
    async with await ManagedProcess.start(worker) as process:
        await process.wait_until_ready(process.log_matches("worker is ready"), timeout=timedelta(seconds=60))
        script = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLE), env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await script.communicate()
        assert script.returncode == 0, process.log_text()

    assert output.decode().startswith("ended: 3 answers for $0.0")
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        saved = connection.execute("select review, label from sentiments order by review").fetchall()
    assert [review for review, _ in saved] == [
        "Does what the box says.",
        "It broke after two days.",
        "Works like a charm.",
    ]


def test_the_readme_shows_the_example_as_it_is() -> None:
    shown = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert shown == EXAMPLE.read_text()
