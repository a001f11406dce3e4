"""Where `worker.py` is, and how it is run: always in a process of its own.

In an installed package it lies, with `workflows` and `activities`, in `overnight/_app`; in a checkout it is the
repository's own. Its folder comes first on the path, for those two names are generic and other distributions have
them too (docs/decisions/0001).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from overnight.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent.parent


def worker_script(package: Path = _PACKAGE) -> Path:
    """The `worker.py` that belongs to this library.

    Raises:
        ConfigurationError: the installation is not whole.
    """
    for place in (package / "_app", package.parent):
        if (place / "worker.py").is_file() and (place / "workflows").is_dir():
            return place / "worker.py"
    raise ConfigurationError(f"{package} has no worker beside it: the installation is not whole. Install it again.")


def worker_command(modules: Sequence[str], *, log_level: str = "INFO", only: str | None = None) -> list[str]:
    """The command line that runs the worker, or one part of it, with the user's modules."""
    imports = [argument for module in modules for argument in ("--import", module)]
    part = [] if only is None else ["--only", only]
    return [sys.executable, str(worker_script()), "--log-level", log_level, *part, *imports]


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: its folder on the path, then the working directory, where the user's modules are."""
    places = [str(worker_script().parent), str(Path.cwd())]
    if existing := environment.get("PYTHONPATH"):
        places.append(existing)
    return {**environment, "PYTHONPATH": os.pathsep.join(places)}


def become_worker(modules: Sequence[str], *, log_level: str, only: str | None = None) -> None:
    """Turn this process into the worker, so that signals and exit codes are the worker's own."""
    command = worker_command(modules, log_level=log_level, only=only)
    sys.stdout.flush()
    os.execve(command[0], command, worker_environment(os.environ))  # noqa: S606 - our own program, no shell is wanted
