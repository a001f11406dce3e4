"""Everything that is installed is pinned by hash, and no lock or configuration says from which host it comes."""

import json
import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

_PYTHON_LOCKS = sorted([*ROOT.glob("requirements/*.lock"), *ROOT.glob("deploy/*.lock"), *ROOT.glob("tests/**/*.lock")])
_NODE_LOCKS = sorted(path for path in ROOT.glob("tests/**/package-lock.json") if "node_modules" not in path.parts)
_NAMES = {path: str(path.relative_to(ROOT)) for path in (*_PYTHON_LOCKS, *_NODE_LOCKS)}


def test_there_are_locks_of_both_kinds() -> None:
    assert {"requirements/runtime.lock", "requirements/dev.lock"} <= set(_NAMES.values())
    assert _NODE_LOCKS


@pytest.mark.parametrize("lock", _PYTHON_LOCKS, ids=_NAMES.get)
def test_a_python_lock_names_no_host_and_no_option(lock: Path) -> None:
    text = lock.read_text()

    assert "://" not in text
    assert re.findall(r"^\s*-(?!-hash=)\S+", text, re.MULTILINE) == []


@pytest.mark.parametrize("lock", _PYTHON_LOCKS, ids=_NAMES.get)
def test_every_requirement_of_a_python_lock_has_an_exact_version_and_a_hash(lock: Path) -> None:
    requirements = re.split(r"(?<!\\)\n", lock.read_text().strip())

    assert requirements
    unpinned = [
        line for line in requirements if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line, re.DOTALL)
    ]
    assert unpinned == []


@pytest.mark.parametrize("lock", _NODE_LOCKS, ids=_NAMES.get)
def test_every_package_of_a_node_lock_has_a_hash_and_names_no_host(lock: Path) -> None:
    packages = {name: package for name, package in json.loads(lock.read_text())["packages"].items() if name}

    assert packages
    assert "://" not in lock.read_text()  # not even where to send money: npm writes that, too
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


@pytest.mark.parametrize("lock", _NODE_LOCKS, ids=_NAMES.get)
def test_npm_is_told_to_leave_the_hosts_out_of_the_lock(lock: Path) -> None:
    assert "omit-lockfile-registry-resolved=true" in lock.with_name(".npmrc").read_text().split()
