import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A fresh environment with the wheel in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def application(self) -> Path:
        """Where the wheel put `workflows`, `activities` and `worker.py`."""
        (application,) = self.folder.glob("lib/python*/site-packages/overnight/_app")
        return application


def quietly(*command: str | Path) -> None:
    """Run a program from the repository's root that must succeed."""
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sources as they are."""
    folder = tmp_path_factory.mktemp("dist")
    quietly(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in a fresh environment, beside the distribution that has a top-level `workflows` too."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    uv, python = (sys.executable, "-m", "uv", "--quiet"), folder / "bin" / "python"
    locks = ("requirements/runtime.lock", "tests/architecture/requirements/llama-index-workflows.lock")
    quietly(*uv, "venv", "--no-project", "--python", sys.executable, folder)
    quietly(*uv, "pip", "install", "--python", python, "--require-hashes", "-r", locks[0], "-r", locks[1])
    quietly(*uv, "pip", "install", "--python", python, "--no-deps", "--offline", wheel)
    return Installation(folder=folder)
