"""The code blocks of the documentation, in the order in which a reader meets them.

A page reads from top to bottom, and so it is run: its blocks share one folder, one set of servers and, in Python, one
namespace, in which `overnight` is a client. What a block cannot say in its own language is said in a comment in front
of it, which readers do not see:

    <!-- not run: why not -->        it is only checked for its form
    <!-- exit code: 4 -->            a shell block ends like this
    <!-- stays, once it says: x -->  a shell block that runs until the page's end, awaited until it says x
    <!-- meanwhile: code -->         Python that runs here and is not shown, for as many lines as it needs: what the
                                     provider does, what must hold

A `title` with a file's name makes a block a file in the page's folder; one that says "It prints" holds what the block
before it printed, where … stands for anything.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"(?:^<!-- (?P<word>not run|exit code|stays, once it says): (?P<value>.+?) -->\n+)?"
    r'^(?P<indent> *)```(?P<language>[\w-]+)(?: title="(?P<title>.+?)")?[^\n]*\n(?P<code>.*?)^(?P=indent)```$'
    r"|^<!-- meanwhile:\s+(?P<hidden>.+?)\s+-->$",
    re.MULTILINE | re.DOTALL,
)
_WHOLE_PAGE = re.compile(r"^<!-- this page is not run: (?P<reason>.+?) -->$", re.MULTILINE)

PRINTS = "It prints"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block.

    Attributes:
        line: where its code begins.
        reason: why it is not run, where it is not.
        exit_code: how a shell block ends.
        ready: what it says when it is ready, where it stays.
        hidden: readers do not see it.
    """

    page: Path
    line: int
    language: str
    code: str
    title: str | None = None
    reason: str | None = None
    exit_code: int = 0
    ready: str | None = None
    hidden: bool = False

    @property
    def where(self) -> str:
        """For whoever looks for it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it shows, where it shows one."""
        return self.title if self.title and self.title != PRINTS else None


def pages() -> list[Path]:
    """Every page, and the README."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def reason_for_page(page: Path) -> str | None:
    """Why no block of a page is run, where the page says so."""
    found = _WHOLE_PAGE.search(page.read_text())
    return found["reason"] if found else None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page."""
    text = page.read_text()
    return [_block(page, text, found) for found in _FENCE.finditer(text)]


def _block(page: Path, text: str, found: re.Match[str]) -> Block:
    if found["hidden"] is not None:
        line, code = _line(text, found.start("hidden")), found["hidden"].strip() + "\n"
        return Block(page=page, line=line, language="python", code=code, hidden=True)
    code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
    return Block(
        page=page,
        line=_line(text, found.start("code")),
        language=found["language"],
        code=code,
        title=found["title"],
        reason=found["value"] if found["word"] == "not run" else None,
        exit_code=int(found["value"]) if found["word"] == "exit code" else 0,
        ready=found["value"] if found["word"] == "stays, once it says" else None,
    )


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
