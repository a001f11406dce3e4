"""The wheel: one top-level name, the application inside, and peace with another distribution's `workflows`."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from overnight.cli.application import worker_environment
from tests.architecture.conftest import Installation
from tests.architecture.sources import ROOT, modules
from tests.e2e.testing.pages import run_tests, write_project


@pytest.fixture
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty environment, far from the checkout."""
    folder = Path(command[0]).parent
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(
        [*map(str, command)], cwd=folder, env={**path, **environment}, capture_output=True, text=True, check=False
    )


def test_the_only_top_level_name_is_overnight(contents: set[str]) -> None:
    tops = {name.partition("/")[0] for name in contents}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"overnight"}


def test_the_wheel_has_every_source_file_of_library_and_application_and_no_other(contents: set[str]) -> None:
    library = {str(file.relative_to(ROOT)) for file in modules("overnight")}
    application = {
        f"overnight/_app/{file.relative_to(ROOT)}" for file in modules("workflows", "activities", "worker.py")
    }

    assert {name for name in contents if name.endswith(".py")} == library | application


def test_the_wheel_has_the_migrations_sql_and_says_that_it_is_typed(contents: set[str]) -> None:
    sql = {str(file.relative_to(ROOT)) for file in (ROOT / "overnight").rglob("*.sql")}

    assert sql
    assert {*sql, "overnight/py.typed"} <= contents


def test_the_wheel_has_the_consoles_templates_and_static_files(contents: set[str]) -> None:
    folder = ROOT / "overnight/console"
    files = {str(file.relative_to(ROOT)) for place in ("templates", "static") for file in (folder / place).iterdir()}

    assert {f"overnight/console/{name}" for name in ("templates/base.html", "static/console.css")} <= files
    assert files <= contents


def test_the_license_travels_along(contents: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in contents)


def test_both_import_where_another_distribution_has_a_workflows_too(installation: Installation) -> None:
    code = """
import importlib.metadata, overnight, workflows
print(overnight.Task.__module__, workflows.Workflow.__module__.partition(".")[0])
print(importlib.metadata.packages_distributions()["workflows"])
"""
    shown = run(installation.python, "-c", code)

    assert shown.stdout.splitlines() == ["overnight.tasks workflows", "['llama-index-workflows']"], shown.stderr


def test_without_the_application_first_on_the_path_the_worker_would_get_the_other_workflows(
    installation: Installation,
) -> None:
    failed = run(installation.python, "-c", "from workflows import BatchWorkflow")

    assert failed.returncode == 1
    assert "cannot import name 'BatchWorkflow'" in failed.stderr


def test_in_the_workers_environment_workflows_and_activities_are_ours(installation: Installation) -> None:
    code = "import activities, workflows, worker; print(*(it.__file__ for it in (activities, workflows, worker)))"
    shown = run(installation.python, "-c", code, PYTHONPATH=str(installation.application))

    assert shown.returncode == 0, shown.stderr
    assert [Path(place).relative_to(installation.application) for place in shown.stdout.split()] == [
        Path("activities/__init__.py"),
        Path("workflows/__init__.py"),
        Path("worker.py"),
    ]


def test_the_installed_command_runs_the_bundled_worker_which_says_that_it_has_no_database(
    installation: Installation,
) -> None:
    told = run(installation.python.with_name("overnight"), "worker")

    assert told.returncode == 2, told.stderr
    assert told.stderr.startswith("overnight worker: No database. Set OVERNIGHT_DATABASE_URL")
    assert "Traceback" not in told.stderr


def test_the_installed_worker_runs_in_the_application_of_its_own_installation(installation: Installation) -> None:
    code = "from overnight.cli.application import worker_script; print(worker_script())"
    shown = run(installation.python, "-c", code)

    assert Path(shown.stdout.strip()) == (installation.application / "worker.py").resolve()


def test_the_workers_environment_has_its_own_folder_before_everything_else() -> None:
    path = worker_environment({"PYTHONPATH": "/elsewhere"})["PYTHONPATH"].split(os.pathsep)

    assert path[0] == str(ROOT)
    assert path[-1] == "/elsewhere"


def test_a_users_module_that_does_not_import_is_named(installation: Installation) -> None:
    told = run(installation.python.with_name("overnight"), "worker", "--import", "my_app.batches")

    assert told.returncode == 2
    assert "Cannot import 'my_app.batches'" in told.stderr


def test_the_test_fixtures_run_the_bundled_worker_and_leave_the_name_workflows_to_its_owner(
    installation: Installation, tmp_path: Path
) -> None:
    """From the wheel, beside LlamaIndex's `workflows`, and with anyio's plugin instead of pytest-asyncio."""
    write_project(tmp_path)
    (tmp_path / "tests" / "test_nightly.py").write_text(NIGHTLY)
    # pytest and what the extra `embedded` needs are lent from here; `overnight` itself is no package here.
    lent = sysconfig.get_path("purelib")
    assert not (Path(lent) / "overnight" / "__init__.py").exists()
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    options = ("-p", "no:asyncio", "-c", "/dev/null", "--rootdir", ".", "-o", "pythonpath=.", "tests/test_nightly.py")

    done = run_tests(tmp_path, *options, python=installation.python, environment={"PYTHONPATH": lent, "PATH": path})

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


NIGHTLY = """
import pytest
import workflows
from my_app.batches import Classify, SaveSentiments
from overnight import Outcome
from overnight.testing.application import application

theirs = workflows.Workflow


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_reviews_are_saved(overnight, overnight_simulator):
    overnight_simulator.answer("r-1", {"label": "good"})
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=SaveSentiments)
    await batch.add(Classify(review="Works."), custom_id="r-1")
    await batch.submit()
    assert (await batch.wait()).outcomes == {Outcome.SUCCEEDED: 1}

    assert "/_app/" in application().__file__
    import workflows.events
    assert workflows.Workflow is theirs
    with pytest.raises(ModuleNotFoundError):
        import activities
"""
