"""`make audit` and `.ci/audit`: "nothing is known" is said only when somebody has been asked."""

import json
import sys
from pathlib import Path

import pytest

from tests.architecture.compose import run
from tests.architecture.sources import ROOT

SCRIPT = ROOT / ".ci" / "audit.py"

CLEAN = {"dependencies": [{"name": "jinja2", "version": "3.1.6", "vulns": []}]}
UNKNOWN = {"dependencies": [{"name": "jinja2", "skip_reason": "Dependency not found"}]}
ILL = {
    "dependencies": [{"name": "jinja2", "version": "3.1.5", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.6"]}]}]
}


def audit(folder: Path, **answers: object) -> tuple[int, str]:
    """Run it with a pip-audit that gives these answers by service, and fails where there is none."""
    for service, answer in answers.items():
        (folder / service).write_text(json.dumps(answer))
    stand_in = folder / "pip-audit"
    stand_in.write_text(
        f'for word; do f="{folder}/$word"; [ -f "$f" ] && exec cat "$f"; done; echo "no route" >&2; exit 1'
    )
    done = run(sys.executable, SCRIPT, OVERNIGHT_PIP_AUDIT=f"/bin/sh {stand_in}")
    return done.returncode, done.stdout + done.stderr


def test_nothing_is_known_when_every_package_was_looked_up(tmp_path: Path) -> None:
    code, said = audit(tmp_path, pypi=CLEAN)

    assert code == 0
    assert said.endswith("audit: nothing is known against any locked package.\n")
    assert sum(said.count(path) for path in ("runtime.lock", "image.lock", "dev.lock", "build.lock")) == 4


def test_what_one_service_does_not_know_another_is_asked_for(tmp_path: Path) -> None:
    assert audit(tmp_path, pypi=UNKNOWN, osv=CLEAN)[0] == 0


def test_a_finding_is_named_with_the_version_that_has_it_no_more(tmp_path: Path) -> None:
    code, said = audit(tmp_path, pypi=UNKNOWN, osv=ILL)

    assert code == 1
    assert "FOUND jinja2 3.1.5: PYSEC-1, fixed in 3.1.6" in said


@pytest.mark.parametrize(
    "answers", [{}, {"pypi": UNKNOWN}, {"pypi": UNKNOWN, "osv": UNKNOWN}], ids=["none", "one", "both"]
)
def test_that_nobody_could_be_asked_is_neither_good_news_nor_a_finding(
    tmp_path: Path, answers: dict[str, object]
) -> None:
    code, said = audit(tmp_path, **answers)

    assert code == 2
    assert "COULD NOT ASK" in said
    assert "FOUND" not in said
    assert ("osv: no route" in said) == ("osv" not in answers)


def test_without_pip_audit_nobody_could_be_asked(tmp_path: Path) -> None:
    done = run(sys.executable, SCRIPT, OVERNIGHT_PIP_AUDIT=str(tmp_path / "absent"))

    assert done.returncode == 2
    assert "No such file" in done.stdout


def test_the_audit_looks_at_every_lock_that_is_installed_from() -> None:
    there = {str(path.relative_to(ROOT)) for path in (*ROOT.glob("requirements/*.lock"), *ROOT.glob("deploy/*.lock"))}

    assert {path for path in there if f'"{path}"' in SCRIPT.read_text()} == there
