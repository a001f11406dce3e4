"""What the site's build adds to the pages."""

import re
from pathlib import Path
from typing import Any

DECISIONS = Path(__file__).parent / "decisions"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the list of decisions behind their introduction: each is named by its own heading."""
    return f"{markdown}\n\n{decisions()}" if page.file.src_uri == "decisions/README.md" else markdown


def decisions() -> str:
    """A list of all decisions, by number."""
    return "\n".join(f"* [{_heading(file)}]({file.name})" for file in sorted(DECISIONS.glob("0*.md")))


def _heading(file: Path) -> str:
    found = re.match(r"# (\d+)\. (.+)", file.read_text())
    assert found is not None, f"{file.name} has to begin with '# <number>. <what was decided>'"
    return f"{found[1]}. {found[2]}"
