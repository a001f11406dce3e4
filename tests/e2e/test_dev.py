"""`overnight dev` as a process, used as its output says, until Ctrl-C."""

import asyncio
import re
import shlex
from pathlib import Path

import httpx
import pytest

from overnight import Overnight, RawRequest
from tests.e2e.commands import Command, started

MODEL = "gpt-5.4-mini"

pytestmark = pytest.mark.timeout(120)


def export(printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell does with the lines that are to be copied into it."""
    for line in re.findall(r"^export (.*)$", printed, re.MULTILINE):
        (assignment,) = shlex.split(line)
        monkeypatch.setenv(*assignment.split("=", 1))


async def answers(command: Command, name: str) -> bool:
    """Whether there is a page at the address that is printed behind a name."""
    url = re.search(rf"^{name} +(http://\S+)$", command.printed, re.MULTILINE)
    assert url, command.printed
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url[1], follow_redirects=True)).is_success


async def test_what_it_prints_leads_to_servers_and_a_worker_and_ctrl_c_leaves_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started("dev", "--folder", str(tmp_path / "dev")) as command:
        await command.until("Ctrl-C ends it")
        assert "Simulated     openai, anthropic" in command.printed
        assert [await answers(command, name) for name in ("Console", "Temporal UI")] == [True, True]
        export(command.printed, monkeypatch)
        async with Overnight.connect() as overnight:
            batch = await overnight.create_batch(provider="openai", model=MODEL)
            await batch.add(RawRequest(body={"model": MODEL, "input": "Say hello."}))
            await batch.submit()
            while (await batch.get()).provider_batch_id is None:
                await asyncio.sleep(0.05)

        command.interrupt()
        code, complaints = await command.end()

        assert (code, complaints) == (0, ""), command.printed
        assert command.processes() == []
