"""`overnight demo` as a process, the way `make demo` runs it. Its input comes from `make demo-data`."""

import asyncio
import re
import shutil
import urllib.request
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from overnight.cli.demo.archive import NAME
from overnight.simulator.serve import Running
from tests.e2e.commands import Command, started

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHIVE = REPOSITORY / ".demo" / "data" / f"{NAME}.tar.gz"
ENTRIES = 20

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A demo's folder with its input and nothing else."""
    assert ARCHIVE.is_file(), "the demo's input is not here: run `make demo-data`"
    (tmp_path / "data").mkdir()
    shutil.copy(ARCHIVE, tmp_path / "data")
    return tmp_path


def demo(folder: Path, *options: str, **environment: str) -> AbstractAsyncContextManager[Command]:
    return started("demo", "--folder", str(folder), "--entries", str(ENTRIES), *options, **environment)


def sees_a_batch(printed: str) -> None:
    url = re.search(r"^Console +(http://127\.0\.0\.1:\d+)$", printed, re.MULTILINE)
    assert url, printed
    assert "gpt-" in urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url[1]).read().decode()


async def test_the_demo_brings_every_entry_to_its_outcome_and_can_be_run_again(folder: Path) -> None:
    for _ in range(2):
        async with demo(folder) as run:
            code, complaints = await run.end()
            assert (code, complaints) == (0, ""), run.printed
            assert run.processes() == []
        assert "The provider is simulated; its answers come from VADER" in run.printed
        assert re.search(rf"outcomes +{ENTRIES} succeeded +{ENTRIES} succeeded", run.printed)
        assert re.search(rf"rows in \w+ +{ENTRIES} +{ENTRIES}", run.printed)
        assert re.search(r"cost as a batch +\$0\.\d+ +\$0\.\d+", run.printed)
        assert re.search(rf"agree with people +\d+% \(\d+ of {ENTRIES}\)", run.printed)
        assert (
            len(re.findall(r"^http://127\.0\.0\.1:\d+/namespaces/default/workflows/batch-", run.printed, re.MULTILINE))
            == 2
        )
        assert {log.name for log in (folder / "logs").iterdir()} == {
            *("demo.log", "postgres.log", "simulator.log", "temporal.log", "worker.log")
        }


@pytest.mark.parametrize("moment", ["Starting Postgres", "Everything is up", "polls 2", "Console"])
async def test_ctrl_c_at_any_moment_ends_the_demo_and_all_that_it_started(folder: Path, moment: str) -> None:
    async with demo(folder, "--keep") as run:
        await run.until(moment)
        if moment == "Console":
            await asyncio.to_thread(sees_a_batch, run.printed)
        run.interrupt()
        code, complaints = await run.end()
        assert (code, len(complaints.splitlines())) == (130, 1), complaints
        assert run.processes() == []


async def test_ctrl_c_while_the_servers_start_leaves_none_of_them(folder: Path) -> None:
    async with demo(folder) as run:
        while len(run.processes()) < 4:
            await asyncio.sleep(0.01)
        run.interrupt()
        assert (await run.end())[0] == 130
        assert run.processes() == []


async def test_a_second_demo_in_the_same_folder_is_refused(folder: Path) -> None:
    async with demo(folder) as first:
        await first.until("Starting Postgres")
        async with demo(folder) as second:
            code, complaints = await second.end()
            assert code == 2
            assert "Another demo is running" in complaints
        first.interrupt()
        await first.end()


async def test_a_dead_worker_ends_the_demo_with_the_end_of_its_log(folder: Path) -> None:
    async with demo(folder) as run:
        await run.until("polls 1")
        (worker,) = [process for process in run.processes() if "worker.py" in " ".join(process.cmdline()[1:2])]
        worker.kill()
        code, complaints = await run.end()
        assert code == 1
        assert "worker ended with signal SIGKILL" in complaints
        assert "worker is ready" in complaints
        assert str(folder / "logs" / "worker.log") in complaints
        assert run.processes() == []


async def test_with_a_real_provider_its_price_is_told_and_an_unfinished_batch_is_taken_up_again(
    folder: Path, simulator: Running
) -> None:
    real = {
        "OVERNIGHT_DEMO_PROVIDER": "openai",
        "OPENAI_API_KEY": "sk-of-the-users-own",
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OVERNIGHT_POLL_WAITS": "3600",
    }
    async with demo(folder, **real) as first:
        await first.until("polls 0 .* next poll in")
        first.interrupt()
        assert (await first.end())[0] == 130
    assert re.search(rf"Submitting {ENTRIES} entries to openai.* costs \$0\.\d+ at most\.", first.printed)
    assert "VADER" not in first.printed
    async with demo(folder, **real) as second:
        code, complaints = await second.end()
        assert (code, complaints) == (0, ""), second.printed
    assert "Going on with it; nothing new is submitted" in second.printed
    assert re.search(rf"outcomes +{ENTRIES} succeeded", second.printed)


async def test_without_the_real_providers_key_nothing_starts(folder: Path) -> None:
    async with demo(folder, OVERNIGHT_DEMO_PROVIDER="openai", OPENAI_API_KEY="") as run:
        code, complaints = await run.end()
        assert code == 2
        assert "OPENAI_API_KEY" in complaints
        assert not (folder / "lock").exists()
