"""The map of acceptance cases is whole, and leads to tests that exist."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.sources import ROOT, parse

TESTS = ROOT / "tests"
MAP = TESTS / "ACCEPTANCE.md"
CASES = range(1, 201)
NOT_HERE = "Not here:"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the map, with the rows below it that have no number of their own."""

    cases: tuple[int, ...]
    text: str
    tests: tuple[str, ...]


def rows(text: str) -> list[Row]:
    """The rows of every table whose first column is `case`."""
    found: list[Row] = []
    for cells in table_lines(text):
        tests = tuple(re.findall(r"`([^`]+)`", cells[2]))
        if cells[0]:
            found.append(Row(cases=expand(cells[0]), text=cells[1], tests=tests))
        else:
            last = found.pop()
            found.append(Row(cases=last.cases, text=f"{last.text} {cells[1]}".strip(), tests=last.tests + tests))
    return found


def table_lines(text: str) -> Iterator[list[str]]:
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == "case":
            inside = True
        elif inside and set(cells[0]) != {"-"}:
            yield cells


def expand(cell: str) -> tuple[int, ...]:
    """ "1, 4-6" to 1, 4, 5, 6."""
    numbers: list[int] = []
    for part in cell.split(","):
        first, _, last = part.strip().partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def exists(name: str) -> bool:
    """Whether pytest would collect a test of this name."""
    path, _, test = name.partition("::")
    file = TESTS / path
    return file.is_file() and Path(path).name.startswith("test_") and test in those_in(file)


def those_in(file: Path) -> set[str]:
    return set(collected(parse(file)))


def collected(scope: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from collected(node, f"{prefix}{node.name}::")


def test_every_case_is_in_the_map_exactly_once() -> None:
    counts = Counter(case for row in rows(MAP.read_text()) for case in row.cases)

    assert sorted(counts) == list(CASES)
    assert [case for case, count in counts.items() if count > 1] == []


def test_every_test_that_the_map_names_exists() -> None:
    named = {name for row in rows(MAP.read_text()) for name in row.tests}

    assert named
    assert sorted(name for name in named if not exists(name)) == []


def test_a_case_has_tests_or_the_reason_why_not() -> None:
    found = rows(MAP.read_text())

    assert [row.cases for row in found if bool(row.tests) == row.text.startswith(NOT_HERE)] == []
    assert [row.cases for row in found if not row.text.removeprefix(NOT_HERE).strip()] == []


def test_every_acceptance_test_has_its_case() -> None:
    named = {name for row in rows(MAP.read_text()) for name in row.tests}
    files = sorted((TESTS / "acceptance").glob("test_*.py"))
    ours = {f"acceptance/{file.name}::{name}" for file in files for name in those_in(file)}

    assert ours
    assert sorted(ours - named) == []


def test_the_pages_that_the_map_points_to_exist() -> None:
    text = MAP.read_text()
    pages = dict(re.findall(r"^\[(.+)\]: (\S+)$", text, re.MULTILINE))

    assert pages
    assert set(re.findall(r"\[([^\]]+)\]", text)) == set(pages)
    assert [page for page in pages.values() if not (TESTS / page).resolve().is_file()] == []


def test_a_row_without_a_number_belongs_to_the_one_above_and_other_tables_are_left_alone() -> None:
    text = (
        "| word | means |\n| - | - |\n| 7 | no case |\n\n"
        "| case | what | tests |\n|---|---|---|\n"
        "| 1, 3-5 | a | `x.py::test_a` |\n| | b | `x.py::test_b` |\n| 2 | Not here: c | |\n"
    )

    one, two = rows(text)
    assert one == Row(cases=(1, 3, 4, 5), text="a b", tests=("x.py::test_a", "x.py::test_b"))
    assert two == Row(cases=(2,), text="Not here: c", tests=())


def test_tests_are_found_in_classes_and_not_inside_each_other() -> None:
    source = (
        "def test_a():\n  def test_b(): ...\n"
        "class TestC:\n  async def test_d(self): ...\n"
        "class Other:\n  def test_e(self): ...\n"
    )

    assert [*collected(ast.parse(source))] == ["test_a", "TestC::test_d"]


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert exists("architecture/test_acceptance.py::test_a_test_that_is_not_there_is_noticed")
    assert not exists("architecture/test_acceptance.py::test_of_another_name")
    assert not exists("architecture/test_acceptance.py::those_in")
    assert not exists("architecture/test_nowhere.py::test_every_case_is_in_the_map_exactly_once")
