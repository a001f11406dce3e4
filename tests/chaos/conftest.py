import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from overnight.embedded import EmbeddedPostgres, EmbeddedTemporal
from tests.chaos.harness import Servers, System, own_servers, running_system
from tests.chaos.harness_audit import audit, complaints

StartSystem = Callable[..., contextlib.AbstractAsyncContextManager[System]]


@pytest.fixture
def servers(postgres: EmbeddedPostgres, temporal_server: EmbeddedTemporal, database_url: str) -> Servers:
    """Those of all tests, with a database of this test's own: for tests in which only workers die."""
    return Servers(postgres=postgres, temporal=temporal_server, dsn=database_url)


@pytest.fixture
def surviving(tmp_path: Path, servers: Servers) -> StartSystem:
    """A system that is audited at the end: whatever the test did to it, every batch must have come out whole."""

    @contextlib.asynccontextmanager
    async def start(*, mortal_servers: bool = False, **options: Any) -> AsyncIterator[System]:
        async with contextlib.AsyncExitStack() as stack:
            under = await stack.enter_async_context(own_servers(tmp_path)) if mortal_servers else servers
            system = await stack.enter_async_context(running_system(tmp_path, servers=under, **options))
            yield system
            await system.finish()
            await system.settle()
            assert complaints(await audit(system)) == []

    return start
