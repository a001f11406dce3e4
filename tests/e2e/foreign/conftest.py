import asyncio
import secrets
import shutil
from pathlib import Path

import pytest

from overnight.embedded import EmbeddedTemporal
from overnight.settings import Settings
from tests.e2e.foreign.clients import CommandLineClient, ForeignClient, TypeScriptClient, npm, run

_PROJECT = Path(__file__).parent


@pytest.fixture(scope="session")
def typescript_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client and a worker in a folder of their own, with the packages of their lock and no others."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("client.ts", "worker.ts", "package.json", "package-lock.json", ".npmrc"):
        shutil.copy(_PROJECT / name, folder)
    asyncio.run(run(*npm("ci"), cwd=folder))
    return folder


@pytest.fixture(params=["temporal CLI", "TypeScript"])
def foreign(request: pytest.FixtureRequest, temporal_server: EmbeddedTemporal, settings: Settings) -> ForeignClient:
    """A client that is not ours, on this test's deployment."""
    address, task_queue = temporal_server.address, settings.task_queue
    if request.param == "TypeScript":
        folder: Path = request.getfixturevalue("typescript_project")
        return TypeScriptClient(address=address, task_queue=task_queue, folder=folder)
    return CommandLineClient(address=address, task_queue=task_queue)


@pytest.fixture
def name() -> str:
    """A workflow id that nobody has used on the server that the tests share."""
    return f"foreign-{secrets.token_hex(6)}"
