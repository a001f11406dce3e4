import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from overnight.cli import main
from overnight.cli.application import worker_environment, worker_script
from overnight.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[3]


def application(folder: Path) -> Path:
    (folder / "workflows").mkdir(parents=True)
    (folder / "worker.py").touch()
    return folder / "worker.py"


def test_in_a_checkout_the_worker_is_the_repositorys() -> None:
    assert worker_script() == REPOSITORY / "worker.py"


def test_in_an_installed_package_the_worker_is_the_bundled_one(tmp_path: Path) -> None:
    bundled = application(tmp_path / "overnight" / "_app")
    application(tmp_path / "elsewhere")
    (tmp_path / "worker.py").touch()
    assert worker_script(tmp_path / "overnight") == bundled


def test_somebody_elses_worker_beside_the_package_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "worker.py").touch()
    with pytest.raises(ConfigurationError, match="not whole"):
        worker_script(tmp_path / "overnight")


def test_the_workers_folder_comes_first_on_its_path_and_the_users_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = worker_environment({"PYTHONPATH": "/theirs", "A": "b"})["PYTHONPATH"].split(os.pathsep)
    assert path == [str(REPOSITORY), str(tmp_path), "/theirs"]


def test_the_worker_replaces_the_command_so_that_its_signals_and_exit_code_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Sequence[str]] = []

    def execve(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        assert path == sys.executable
        assert environment["PYTHONPATH"].startswith(str(REPOSITORY))
        started.append(arguments)

    monkeypatch.setattr(os, "execve", execve)
    assert main(["worker", "--import", "my_app.batches", "--import", "my_app.more", "--log-level", "debug"]) == 0
    script = str(REPOSITORY / "worker.py")
    imports = ["--import", "my_app.batches", "--import", "my_app.more"]
    assert started == [[sys.executable, script, "--log-level", "DEBUG", *imports]]
