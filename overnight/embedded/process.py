"""Child processes that never outlive us: started in order, watched, and stopped in order.

Every program runs under a guard (`_guard.py`, which says how and why). Whatever happens to this process,
kill -9 included, the guard sees it and takes the program down, with all that the program started. The
program is in a session of its own, so that Ctrl-C in a terminal reaches us alone and we decide who stops when.

Nothing here is bound to an event loop: a process started in one loop can be awaited in another.
"""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from overnight.embedded.ports import LOOPBACK
from overnight.errors import EmbeddedServerError
from overnight.log_events import LogEvent

_log = logging.getLogger(__name__)
_GUARD = Path(__file__).with_name("_guard.py")
_LOOK_SECONDS = 0.02
_KILL_TIMEOUT = timedelta(seconds=10)
_LAST_LINES = 20
# When we die without stopping the program, nobody waits for it to finish its work.
_ORPHAN_GRACE = timedelta(seconds=5)
_WAITS_BEFORE_NEXT_TRY = (0.1, 0.2, 0.5, 1.0, 2.0)

ReadyCheck = Callable[[], Awaitable[bool]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a program runs as, for programs that refuse to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, and how to end it.

    Attributes:
        name: For people: error messages say "<name> ended ...".
        argv: The program and its arguments; a relative program is looked up on the PATH.
        log_file: Receives standard output and error, appended. Its folder is created.
        env: The whole environment, or None to inherit ours.
        cwd: Where it runs, or None for our working directory.
        run_as: Another account, when we are root.
        stop_signal: Asks it to stop in good order.
        stop_timeout: How long it may take after that signal before it is killed.
        temporary: A folder that is of no use without us. Whoever made it removes it; if we die before that, it goes
            when the program has ended.
    """

    name: str
    argv: Sequence[str]
    log_file: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    run_as: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: timedelta = timedelta(seconds=15)
    temporary: Path | None = None


class ManagedProcess:
    """A running program. Start it with `await ManagedProcess.start(program)`; as a context manager it stops at the end.

    Attributes:
        program: What runs.
        pid: Its process id (the program's, not the guard's).
        log_start: Where in the log this start begins, in bytes.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.pid = 0
        program.log_file.parent.mkdir(parents=True, exist_ok=True)
        with program.log_file.open("ab") as log:
            self.log_start = log.tell()
            self._guard = _spawn_guard(program, log.fileno())
        self._report = bytearray()

    @classmethod
    async def start(cls, program: Program) -> Self:
        """Start the program. It runs when this returns; whether it is of use yet is for `wait_until_ready`.

        Raises:
            EmbeddedServerError: It could not be started: no such program, not executable, no such folder.
        """
        process = cls(program)
        try:
            await process._learn_pid()
        except BaseException:
            await process.stop()
            raise
        _log.debug(
            "Started %s with pid %d, log in %s",
            program.name,
            process.pid,
            program.log_file,
            extra={"event": LogEvent.PROCESS_STARTED},
        )
        return process

    @property
    def returncode(self) -> int | None:
        """None while it runs; then its exit status, negative for the signal that ended it."""
        guard = self._guard.poll()
        if guard is None:
            return None
        self._read_report()
        told = re.search(rb"^exit (-?\d+)$", self._report, re.MULTILINE)
        return int(told[1]) if told else guard

    async def wait(self) -> int:
        """Wait until it ended by itself, or by another task's `stop`; answers the exit status."""
        while (returncode := self.returncode) is None:  # noqa: ASYNC110 - an Event belongs to one loop, we to none
            await asyncio.sleep(_LOOK_SECONDS)
        return returncode

    async def wait_until_ready(self, is_ready: ReadyCheck, *, timeout: timedelta) -> None:  # noqa: ASYNC109 - see below
        """Ask `is_ready` again and again until it says yes.

        The timeout is a parameter and not the caller's `asyncio.timeout`, because the error that tells what the
        program said last is worth more than a bare TimeoutError.

        Raises:
            EmbeddedServerError: The program ended first, or the time is over; the text has the last lines of its log.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while not await is_ready():
            self.raise_if_ended()
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(self._told(f"was not ready within {timeout.total_seconds():g} s"))
            await asyncio.sleep(_LOOK_SECONDS)
        self.raise_if_ended()

    def log_matches(self, pattern: str) -> ReadyCheck:
        """A check for `wait_until_ready`: a line written since this start matches the regular expression."""

        async def matches() -> bool:
            return re.search(pattern, self.log_text(), re.MULTILINE) is not None

        return matches

    def log_text(self) -> str:
        """What the program wrote since this start."""
        with self.program.log_file.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def raise_if_ended(self) -> None:
        """Raise EmbeddedServerError, with the last lines of the log, when the program no longer runs."""
        if (returncode := self.returncode) is not None:
            raise EmbeddedServerError(self._told(f"ended with {_in_words(returncode)}"))

    def send_signal(self, signum: int) -> None:
        """Send it any signal. Without effect once it ended; can never hit another process that got its number."""
        try:
            if self._guard.stdin is not None:
                self._guard.stdin.write(bytes([signum]))
        except (BrokenPipeError, ValueError):
            return

    async def stop(self) -> None:
        """Stop signal, wait, and kill if it does not listen. Idempotent; being cancelled does not interrupt it."""
        await finish(self._end(self.program.stop_signal, self.program.stop_timeout))

    async def kill(self) -> None:
        """End it as a crash would, by SIGKILL, and with it everything it started. Idempotent."""
        await finish(self._end(signal.SIGKILL, _KILL_TIMEOUT))

    async def _end(self, signum: signal.Signals, patience: timedelta) -> None:
        self.send_signal(signum)
        if not await self._ended_within(patience):
            _log.warning(
                "%s did not stop within %s, killing it",
                self.program.name,
                patience,
                extra={"event": LogEvent.PROCESS_KILLED},
            )
            self.send_signal(signal.SIGKILL)
            await self._ended_within(_KILL_TIMEOUT)
        if self.returncode is None:
            self._guard.kill()
            self._guard.wait()
        self._close()

    async def _ended_within(self, patience: timedelta) -> bool:
        deadline = time.monotonic() + patience.total_seconds()
        while self.returncode is None and time.monotonic() < deadline:  # noqa: ASYNC110 - as in `wait`
            await asyncio.sleep(_LOOK_SECONDS)
        return self.returncode is not None

    async def _learn_pid(self) -> None:
        while b"\n" not in self._report and self._guard.poll() is None:
            self._read_report()
            await asyncio.sleep(_LOOK_SECONDS / 4)
        self._read_report()
        word, _, rest = self._report.decode(errors="replace").partition("\n")[0].partition(" ")
        if word != "pid":
            raise EmbeddedServerError(self._told(f"could not be started: {rest or 'its guard died'}"))
        self.pid = int(rest)

    def _read_report(self) -> None:
        if self._guard.stdout is not None and not self._guard.stdout.closed:
            self._report += self._guard.stdout.read() or b""

    def _close(self) -> None:
        self._read_report()
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()

    def _told(self, what: str) -> str:
        lines = self.log_text().splitlines()[-_LAST_LINES:]
        last_words = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        return f"{self.program.name} {what}. The end of {self.program.log_file}:\n{last_words}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _spawn_guard(program: Program, log: int) -> subprocess.Popen[bytes]:
    order = {
        "parent": os.getpid(),
        "stop_signal": int(program.stop_signal),
        "grace": min(program.stop_timeout, _ORPHAN_GRACE).total_seconds(),
        "cwd": None if program.cwd is None else str(program.cwd),
        "uid": None if program.run_as is None else program.run_as.uid,
        "gid": None if program.run_as is None else program.run_as.gid,
        "temporary": None if program.temporary is None else str(program.temporary),
    }
    guard = subprocess.Popen(  # noqa: S603 - the argv is the caller's, and no shell reads it
        [sys.executable, "-I", "-S", str(_GUARD), json.dumps(order), *program.argv],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=program.env,
        start_new_session=True,
    )
    assert guard.stdout is not None
    os.set_blocking(guard.stdout.fileno(), False)
    return guard


def tcp_accepts(port: int, *, host: str = LOOPBACK) -> ReadyCheck:
    """A check for `wait_until_ready`: something accepts connections on this port."""

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    return accepts


async def run_to_end(program: Program) -> None:
    """Run a program that ends by itself, such as `initdb`.

    Raises:
        EmbeddedServerError: It could not be started or ended with anything but 0; the log's last lines are in the text.
    """
    async with await ManagedProcess.start(program) as process:
        if await process.wait() != 0:
            process.raise_if_ended()


async def start_despite(collisions: str, start: Callable[[], Awaitable[None]]) -> None:
    """Start a server, and once more when its log blames something that passes, such as a port just taken.

    Args:
        collisions: Regular expression over the error's text, that is over the server's last log lines.
        start: Starts it, or raises EmbeddedServerError having stopped what it started.
    """
    for wait in _WAITS_BEFORE_NEXT_TRY:
        try:
            return await start()
        except EmbeddedServerError as error:
            if not re.search(collisions, str(error)):
                raise
        await asyncio.sleep(wait)
    return await start()


async def finish(work: Coroutine[object, object, T]) -> T:
    """Await work that must not be left half done: a cancellation waits until it is over, then continues."""
    task = asyncio.ensure_future(work)
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is not None and not task.cancelled():
        if (failure := task.exception()) is not None:
            _log.error("Failed while being canceled: %s", failure, extra={"event": LogEvent.PROCESS_FAILED})
        raise canceled
    return task.result()


def _in_words(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"signal {signal.Signals(-returncode).name}"
