"""What the how-to page shows works, as it is shown; and a test of that kind is red where it has to be."""

from pathlib import Path

import pytest

from tests.e2e.testing.pages import run_tests, write_project

HANDLER = "my_app/batches.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def test_the_tests_of_the_page_pass(project: Path) -> None:
    done = run_tests(project)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


def test_both_kinds_of_tests_are_red_where_the_handler_is_broken(project: Path) -> None:
    """In pytest-asyncio's strict mode this time."""
    handler = project / HANDLER
    handler.write_text(handler.read_text().replace('"label": entry.output.label}', '"label": entry.output.lable}'))
    for test in ("test_batches.py", "test_nightly.py"):
        with (project / "tests" / test).open("a") as module:
            module.write("\n\npytestmark = pytest.mark.asyncio\n")

    done = run_tests(project, "-o", "asyncio_mode=strict", "-k", "saved")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout, "a batch that failed saves nothing, broken or not"
    assert "AttributeError: 'Sentiment' object has no attribute 'lable'" in done.stdout
    assert "StuckBatchError: Batch" in done.stdout
    assert "Handler SaveSentiments raised AttributeError at main.py" in done.stdout
