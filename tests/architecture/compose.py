"""`deploy/compose.yaml`, read."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.sources import ROOT

DEPLOY = ROOT / "deploy"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees none of the settings of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "OVERNIGHT_"))}
    return subprocess.run(
        [*map(str, command)], env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


SERVICES: dict[str, Any] = compose()["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
