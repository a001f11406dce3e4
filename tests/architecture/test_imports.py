"""Who may import whom: the contracts of `[tool.importlinter]` in pyproject.toml, and proof that each of them bites."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PLACES, ROOT, modules, parse

# Contract to an import that breaks it, planted at the end of a module.
_PLANTED = {
    "The application stands on the library; its two halves do not know each other": [
        ("activities/reports.py", "import workflows.texts"),
        ("overnight/schedule.py", "import activities.reports"),
        ("overnight/handling/process.py", "import activities.services"),
    ],
    "Nobody imports the composition root": [("overnight/client.py", "import worker")],
    "HTTP is the business of providers, and of notifiers (docs/decisions/0011)": [
        ("overnight/client.py", "import httpx")
    ],
    "SQL is the storage's business": [("overnight/intake.py", "from psycopg.errors import UniqueViolation")],
    "Pages for people are the console's business": [("overnight/cli/ui.py", "import jinja2")],
    "Serving HTTP is the business of few": [("overnight/costs.py", "import starlette.applications")],
    "Temporal stays at the edges: no Task, handler, provider or table needs it": [
        ("overnight/tasks.py", "from temporalio import activity")
    ],
    "What is for tests stays out of what runs (docs/decisions/0020)": [
        ("overnight/reading.py", "from overnight.testing import answer"),
        ("activities/clean_up.py", "import pytest"),
    ],
    "What users' modules of Tasks and handlers import needs no Temporal, not even indirectly": [
        ("overnight/texts.py", "import overnight.contracts")
    ],
    "OpenAI's adapter knows no other provider": [
        ("overnight/providers/openai.py", "import overnight.providers.anthropic")
    ],
    "Anthropic's adapter knows no other provider": [
        ("overnight/providers/_anthropic_facts.py", "from overnight.providers import _openai_facts")
    ],
    "What the adapters share knows none of them": [
        ("overnight/providers/_http.py", "import overnight.providers.openai")
    ],
    "Workflows do no I/O, not even indirectly": [("overnight/batches.py", "import overnight.settings")],
    "The simulator stands alone: it plays the providers, and shares nothing with those who talk to them": [
        ("overnight/simulator/tokens.py", "import overnight.batches")
    ],
}


def lint_imports(folder: Path) -> dict[str, str]:
    """Contract to "KEPT" or "BROKEN", for the code in a folder."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000", "NO_COLOR": "1", "PYTHONSAFEPATH": "1"}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    verdicts = dict(re.findall(r"^(\S.*) (KEPT|BROKEN)$", answer.stdout, re.MULTILINE))
    assert verdicts, answer.stdout + answer.stderr
    verdicts["exit code"] = str(answer.returncode)
    return verdicts


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product's sources and configuration, to be spoiled."""
    for place in (*PLACES, "pyproject.toml"):
        source, target = ROOT / place, tmp_path / place
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def test_the_import_contracts_are_kept() -> None:
    verdicts = lint_imports(ROOT)

    assert verdicts.pop("exit code") == "0"
    assert set(verdicts.values()) == {"KEPT"}


def test_each_import_contract_is_broken_by_an_import_that_it_forbids(copy: Path) -> None:
    for file, statement in (plant for plants in _PLANTED.values() for plant in plants):
        with (copy / file).open("a") as module:
            module.write(f"\n{statement}\n")

    assert lint_imports(copy) == {**dict.fromkeys(_PLANTED, "BROKEN"), "exit code": "1"}


def test_every_import_contract_has_a_planted_violation() -> None:
    assert lint_imports(ROOT).keys() - {"exit code"} == _PLANTED.keys()


def imported(file: Path) -> set[str]:
    """Top-level names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_the_composition_root_is_the_one_place_where_both_halves_meet() -> None:
    meeting = [str(file.relative_to(ROOT)) for file in modules() if {"workflows", "activities"} <= imported(file)]

    assert meeting == ["worker.py"]


def test_the_composition_root_uses_neither_sql_nor_http_itself() -> None:
    assert imported(ROOT / "worker.py") & {"sqlalchemy", "psycopg", "alembic", "httpx"} == set()
