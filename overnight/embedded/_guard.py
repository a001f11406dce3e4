"""The process between us and a server we started: it lives exactly as long as both do.

This file runs as a script, by its path and with the standard library alone, once per server::

    python -I -S _guard.py '{"parent": 41, "stop_signal": 15, "grace": 5.0, ...}' program argument ...

Why a process of its own, rather than `preexec_fn` in ours: code between fork and exec is unsafe in a
process with threads (the Temporal SDK has some), and `PR_SET_PDEATHSIG` fires when the *thread* that
forked ends. This one has a single thread. Standard input is the leash: each byte on it is the number of
a signal for the program, and its end means that our process is gone, however it went. Nothing here
depends on Linux; Linux only adds two more locks: the program dies with the guard, and descendants that
left the program's process group (every Postgres backend does) are adopted, found and killed.

Standard output reports, one line each: `pid <n>` or `error <text>`, and at the end `exit <status>`, with
the number of the fatal signal negative. Standard error is the log file, and the program's own output.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
LEASH = 0
ASKED_TO_STOP = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
LOOK_AT_PARENT_SECONDS = 1.0


def main() -> int:
    order = json.loads(sys.argv[1])
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeups = _watch_signals()
    try:
        pid = _spawn(sys.argv[2:], order, prctl)
    except (OSError, subprocess.SubprocessError) as error:
        _report(f"error {error}")
        return 127
    _report(f"pid {pid}")
    status = _Watch(pid, wakeups, order).until_exit()
    _sweep(pid)
    if order["temporary"] is not None and os.getppid() != order["parent"]:
        _remove(order["temporary"])
    _report(f"exit {status}")
    return status if status >= 0 else 128 - status


def _prctl() -> Callable[[int, int], object]:
    if not LINUX:
        return lambda _option, _value: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda option, value: prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _watch_signals() -> int:
    """A descriptor that becomes readable on a signal, so that `select` waits for everything at once."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, *ASKED_TO_STOP):
        signal.signal(signum, lambda *_: None)
    return reader


def _spawn(argv: list[str], order: dict[str, Any], prctl: Callable[[int, int], object]) -> int:
    guard = os.getpid()

    def before_exec() -> None:
        # After setuid, which clears the request. The guard may have died in between; then nobody would ask again.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        # A shell starts background jobs with SIGINT ignored, and ignoring is inherited.
        for signum in ASKED_TO_STOP:
            signal.signal(signum, signal.SIG_DFL)

    child = subprocess.Popen(  # noqa: S603 - starting the program it was given is what the guard is for
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        cwd=order["cwd"],
        start_new_session=True,
        user=order["uid"],
        group=order["gid"],
        extra_groups=None if order["uid"] is None else [],
        preexec_fn=before_exec,  # noqa: PLW1509 - safe here: this process has one thread
    )
    return child.pid


class _Watch:
    def __init__(self, pid: int, wakeups: int, order: dict[str, Any]) -> None:
        self._pid = pid
        self._wakeups = wakeups
        self._parent: int = order["parent"]
        self._stop_signal: int = order["stop_signal"]
        self._grace: float = order["grace"]
        self._sources = [LEASH, wakeups]
        self._kill_at: float | None = None

    def until_exit(self) -> int:
        while (status := _reap(self._pid)) is None:
            self._wait()
        return status

    def _wait(self) -> None:
        ready = select.select(self._sources, [], [], LOOK_AT_PARENT_SECONDS)[0]
        if LEASH in ready:
            self._obey(os.read(LEASH, 64))
        if self._wakeups in ready and ASKED_TO_STOP.intersection(os.read(self._wakeups, 64)):
            self._stop()
        # A fork of our process that never called exec would hold the leash open; the parent's id tells all the same.
        if os.getppid() != self._parent:
            self._stop()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            os.kill(self._pid, signal.SIGKILL)

    def _obey(self, signals: bytes) -> None:
        for signum in signals:
            os.kill(self._pid, signum)
        if not signals:
            self._sources.remove(LEASH)
            self._stop()

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            os.kill(self._pid, self._stop_signal)


def _reap(pid: int) -> int | None:
    """Collect whoever ended, adopted orphans included; the program's exit status once it is among them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return -signal.SIGKILL
        if ended == pid:
            return os.waitstatus_to_exitcode(status)
        if ended == 0:
            return None


def _sweep(pid: int) -> None:
    """Kill what the program left behind: what is still in its group, then, where Linux lets us adopt, all else."""
    if not LINUX:
        # The group's number cannot be another's yet: this follows the program's end by microseconds.
        _kill(os.killpg, pid)
    while orphans := _children():
        for orphan in orphans:
            _kill(os.kill, orphan)
        for orphan in orphans:
            _wait_for(orphan)


def _children() -> list[int]:
    me = os.getpid()
    stats = Path("/proc").glob("[0-9]*/stat") if LINUX else ()
    return [int(stat.parent.name) for stat in stats if _parent_of(stat) == me]


def _parent_of(stat: Path) -> int | None:
    try:
        # The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _kill(kill: Callable[[int, int], None], target: int) -> None:
    try:
        kill(target, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _wait_for(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def _remove(folder: str) -> None:
    """What the program kept for as long as our process lives, which is over without having cleaned up."""
    import shutil  # noqa: PLC0415 - every server would wait for it, and nearly none needs it

    shutil.rmtree(folder, ignore_errors=True)


def _report(line: str) -> None:
    try:
        os.write(1, f"{line}\n".encode())
    except BrokenPipeError:
        return


if __name__ == "__main__":
    sys.exit(main())
