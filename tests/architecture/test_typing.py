"""A user's code has the types that it ought to have, for mypy and for pyright, both as strict as they get."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

FOLDER = ROOT / "tests" / "typing"
GOOD, BAD = FOLDER / "user_code.py", FOLDER / "mistakes.py"


def complaints_of_mypy() -> dict[str, set[int]]:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--explicit-package-bases", str(GOOD), str(BAD)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode in (0, 1), answer.stdout + answer.stderr
    return lines(re.findall(r"^(\S+?):(\d+): error: ", answer.stdout, re.MULTILINE))


def complaints_of_pyright() -> dict[str, set[int]]:
    command = [sys.executable, "-m", "basedpyright", "--outputjson", str(GOOD), str(BAD)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [row for row in json.loads(answer.stdout)["generalDiagnostics"] if row["severity"] == "error"]
    return lines([(row["file"], row["range"]["start"]["line"] + 1) for row in found])


def lines(found: list[tuple[str, int | str]]) -> dict[str, set[int]]:
    places: dict[str, set[int]] = {GOOD.name: set(), BAD.name: set()}
    for file, line in found:
        places.setdefault(Path(file).name, set()).add(int(line))
    return places


def mistakes() -> set[int]:
    return {number for number, line in enumerate(BAD.read_text().splitlines(), 1) if line.endswith("# wrong")}


@pytest.mark.parametrize("complaints", [complaints_of_mypy, complaints_of_pyright], ids=["mypy", "pyright"])
def test_a_type_checker_agrees_with_what_is_right_and_sees_each_mistake(complaints: object) -> None:
    assert callable(complaints)

    found = complaints()

    assert found[GOOD.name] == set()
    assert found[BAD.name] == mistakes()
