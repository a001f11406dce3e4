"""The how-to page as a project: the files that it shows, in a folder, and its tests in a process of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "test-your-code.md"

_LIMIT = ("--timeout", "60")  # seconds, for a test that waits for what does not come

_SHOWN = re.compile(r'^```\w+ title="(.+?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def write_project(folder: Path) -> None:
    """The files of the page."""
    files = dict(_SHOWN.findall(PAGE.read_text()))
    assert len(files) == 5
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def run_tests(
    folder: Path, *options: str, python: Path = Path(sys.executable), environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The project's tests, where a warning is an error, in an environment that says nothing of any of our servers."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [str(python), "-m", "pytest", "-W", "error", "-p", "no:randomly", "-p", "no:cacheprovider", *_LIMIT, *options],
        cwd=folder,
        env={**given, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
