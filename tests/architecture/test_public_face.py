"""The flat public face: what `overnight` promises, what type checkers see and what is there agree."""

import ast
import importlib
import subprocess
import sys

import pytest

import overnight
from tests.architecture.sources import ROOT, parse

_HEAVY = {"temporalio", "sqlalchemy", "psycopg", "httpx", "alembic"}


def seen_by_type_checkers() -> dict[str, set[str]]:
    """Module to names, from the TYPE_CHECKING block."""
    block = next(node for node in parse(ROOT / "overnight" / "__init__.py").body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {str(node.module): {alias.name for alias in node.names} for node in imports}


def test_type_checkers_see_the_homes_that_the_names_load_from() -> None:
    assert seen_by_type_checkers() == {home: set(names) for home, names in overnight._HOMES.items()}


def test_all_lists_exactly_the_names_that_have_a_home() -> None:
    assert sorted(overnight.__all__) == sorted(overnight._HOME_OF)
    assert len(set(overnight.__all__)) == len(overnight.__all__)


@pytest.mark.parametrize("name", overnight.__all__)
def test_a_public_name_is_the_one_that_its_home_defines(name: str) -> None:
    home = importlib.import_module(overnight._HOME_OF[name])

    assert getattr(overnight, name) is getattr(home, name)


def test_a_name_that_is_not_public_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = overnight.Nonsense


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages an interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*({_HEAVY} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_importing_the_library_loads_no_temporal_and_no_database_driver() -> None:
    assert loaded_after("import overnight") == set()


@pytest.mark.parametrize("names", ["Task, RawRequest", "Task, BatchHandler, Settings, PollSchedule, Batch"])
def test_what_a_users_task_module_imports_loads_no_temporal(names: str) -> None:
    assert "temporalio" not in loaded_after(f"from overnight import {names}")


def test_the_client_loads_temporal_which_shows_that_the_look_at_loaded_modules_works() -> None:
    assert {"temporalio", "sqlalchemy"} <= loaded_after("from overnight import Overnight")
