"""The site builds without a warning and without the network, and says what the code says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import overnight
from docs import generate
from tests.docs.blocks import DOCS, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def html(site: Path) -> Iterator[tuple[str, str]]:
    for page in sorted(site.rglob("*.html")):
        yield str(page.relative_to(site)), page.read_text()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """Diagrams in Mermaid count too: the theme fetches their interpreter."""
    foreign = re.compile(
        r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="(?:https?:)?//|class="mermaid"'
    )

    assert [name for name, text in html(site) if foreign.search(text)] == []


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """By the anchor of where it is defined, for names of the public face load lazily."""
    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))

    missing = [name for name in overnight.__all__ if not re.search(rf'id="overnight\.[\w.]*\b{name}"', text)]
    assert missing == []


def test_every_decision_is_in_the_index(site: Path) -> None:
    index = (site / "decisions" / "index.html").read_text()

    assert [file.name for file in (DOCS / "decisions").glob("0*.md") if file.stem not in index] == []


def test_every_variable_that_the_code_reads_is_on_the_settings_page() -> None:
    code = "".join(file.read_text() for file in (ROOT / "overnight").rglob("*.py"))
    internal = {"OVERNIGHT_DEMO_VADER"}

    named = set(re.findall(r"\bOVERNIGHT_[A-Z_]+\b", code)) - internal
    assert sorted(name for name in named if f"`{name}`" not in generate.settings_page()) == []


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_what_is_generated_is_what_the_code_says(page: Path) -> None:
    fresh = generate.pages()[page]

    assert page.read_text() == fresh, f"{page.relative_to(ROOT)} is stale. Run: python docs/generate.py"
