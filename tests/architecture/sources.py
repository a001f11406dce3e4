"""Where our code is, read as text: these tests judge sources, they do not run them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("overnight", "workflows", "activities", "worker.py")


def modules(*places: str) -> Iterator[Path]:
    """All Python files of the product, or of some of its places."""
    for place in places or PLACES:
        path = ROOT / place
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def where(file: Path, node: ast.expr | ast.stmt | ast.pattern) -> str:
    return f"{file.relative_to(ROOT)}:{node.lineno}"
