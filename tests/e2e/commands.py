"""The `overnight` command as a process, with all that it starts."""

import asyncio
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

MARK = "OVERNIGHT_TEST_RUN"

# What the developer has set, and would lead to real providers.
_NOT_OURS = {"OVERNIGHT_DEMO_PROVIDER", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"}


class Command:
    """A running command. All that it starts inherits a mark in its environment, by which it is found, wherever it
    went.
    """

    def __init__(self, process: Process, mark: str) -> None:
        self._process, self._mark = process, mark
        self.printed = ""

    async def until(self, pattern: str) -> None:
        """Read until it prints a line with this."""
        assert self._process.stdout is not None
        while not re.search(pattern, self.printed):
            line = (await self._process.stdout.readline()).decode()
            assert line, f"it ended without {pattern!r}:\n{self.printed}\n{await self._complaints()}"
            self.printed += line

    async def end(self) -> tuple[int, str]:
        """Wait for its end; the exit code, and what it said on standard error."""
        assert self._process.stdout is not None
        self.printed += (await self._process.stdout.read()).decode()
        complaints = await self._complaints()
        return await self._process.wait(), complaints

    async def _complaints(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def processes(self) -> list[psutil.Process]:
        """All that bear the mark, the command itself included while it runs."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self._mark]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except psutil.Error:
        return None  # gone, or somebody else's
    return mark


@asynccontextmanager
async def started(*arguments: str, **environment: str) -> AsyncIterator[Command]:
    mark = secrets.token_hex(8)
    given = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import sys; from overnight.cli import main; sys.exit(main())", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env={**given, **environment, MARK: mark},
    )
    try:
        yield Command(process, mark)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
