"""The user's code, in a process of its own, from the command line."""

import asyncio
import os
import sys
from collections.abc import Sequence

from overnight.handling.process import serve_handlers
from overnight.logs import log_to_stderr
from overnight.registry import load_modules
from overnight.settings import Settings


def run_handlers(modules: Sequence[str], *, task_queue: str, log_level: str) -> None:
    """Serve a task queue with the handlers and Tasks of some modules.

    Raises:
        ConfigurationError: a setting is senseless, or a module does not import.
        ServerError: Postgres or Temporal does not answer, or the schema is not this code's.
    """
    log_to_stderr(log_level)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings; where the user's modules are
    settings = Settings.from_environment()
    load_modules(modules)
    asyncio.run(serve_handlers(settings, task_queue))
