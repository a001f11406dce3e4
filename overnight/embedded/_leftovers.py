"""What an earlier Postgres on the same folder may have left: itself, still stopping, or a lock without an owner."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from overnight.errors import EmbeddedServerError

# A guard gives the server of a dead parent five seconds to stop in good order; then it kills.
_HAS_PROC = sys.platform == "linux"
_PATIENCE = timedelta(seconds=15)


async def settle_lock(pgdata: Path) -> None:
    """Wait for an earlier postmaster on this folder to be gone, and remove its lock where Postgres would not dare to.

    Raises:
        EmbeddedServerError: One runs on, so it is somebody's.
    """
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while (pid := _lock_holder(pgdata)) is not None and _is_postmaster(pid, pgdata):
        if time.monotonic() >= deadline:
            raise EmbeddedServerError(f"Another Postgres, pid {pid}, runs on {pgdata}. Stop it, or use another folder.")
        await asyncio.sleep(0.1)
    if pid is not None and _is_alive(pid):
        # The number belongs to another program by now, after a reboot or in a new container. Postgres itself only
        # sees that a process has it, and would refuse to start for as long as that one lives.
        _lock(pgdata).unlink(missing_ok=True)


def _lock(pgdata: Path) -> Path:
    return pgdata / "postmaster.pid"


def _lock_holder(pgdata: Path) -> int | None:
    try:
        return int(_lock(pgdata).read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postmaster(pid: int, pgdata: Path) -> bool:
    return str(pgdata) in _command_line(pid)


def _command_line(pid: int) -> str:
    if _HAS_PROC:
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            return ""
    argv = ["/bin/ps", "-ww", "-p", str(pid), "-o", "command="]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout  # noqa: S603 - constant but for an int
