import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness import System, running_system
from tests.chaos.harness_audit import audit, complaints

StartSystem = Callable[..., contextlib.AbstractAsyncContextManager[System]]


@pytest.fixture
def surviving(tmp_path: Path) -> StartSystem:
    """A system that is audited at the end: whatever the test did to it, every batch must have come out whole."""

    @contextlib.asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[System]:
        async with running_system(tmp_path, **options) as system:
            yield system
            await system.finish()
            await system.settle()
            assert complaints(await audit(system)) == []

    return start
