"""The worker inside a test's process.

From an installed package it is imported out of `overnight/_app`, where `workflows` and `activities` lie, two names that
other distributions have too (docs/decisions/0001). So it is imported once, with its folder first on the path, and then
taken out of `sys.modules` again: what a test, or the code under test, imports under these names is what it would have
got without us. Nothing of ours needs the names afterwards, but Temporal's sandbox, which this worker does without.
"""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from overnight.cli.application import worker_script
from overnight.notices import Notifier
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import connect_temporal

_GENERIC = frozenset({"activities", "worker", "workflows"})


@cache
def application() -> ModuleType:
    """The composition root, `worker.py`, as a module."""
    script = worker_script()
    present = sys.modules.get("worker")
    if present is not None and Path(present.__file__ or "").resolve() == script:
        return present  # a checkout, whose own tests have imported it
    theirs = _taken_out()
    sys.path.insert(0, str(script.parent))
    try:
        return importlib.import_module("worker")
    finally:
        sys.path.remove(str(script.parent))
        _taken_out()
        sys.modules.update(theirs)


def _taken_out() -> dict[str, ModuleType]:
    generic = [name for name in sys.modules if name.partition(".")[0] in _GENERIC]
    return {name: sys.modules.pop(name) for name in generic}


@asynccontextmanager
async def working(settings: Settings, notifiers: Sequence[Notifier] = ()) -> AsyncIterator[None]:
    """A worker of these settings, for as long as the block lasts. Temporal is where the environment says."""
    root = application()
    services = root.Services(settings, Store.from_settings(settings), notifiers)
    try:
        async with root.compose(await connect_temporal(settings), services):
            yield
    finally:
        await services.aclose()
        await asyncio.sleep(0.05)  # temporalio's threads must be done before the interpreter is (sdk-python issue 300)
