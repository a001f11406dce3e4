"""Every log line of ours has a name, and every name is on the page for whoever is on call."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from overnight.log_events import LogEvent
from tests.architecture.sources import ROOT, modules, parse, where

PAGE = ROOT / "docs" / "operations" / "logs.md"
LEVELS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"}
SIMULATOR = ROOT / "overnight" / "simulator"
"""A program of its own, which shares nothing with the library: its names are written where they are used."""


def loggers(module: ast.Module) -> set[str]:
    """What the module's loggers are called."""
    made = {
        target.id
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return made | {"logging", "workflow.logger", "activity.logger"}


def log_calls(module: ast.Module) -> Iterator[ast.Call]:
    named = loggers(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            told = ast.unparse(node.func.value)
            if told in named or told.startswith("logging.getLogger("):
                yield node


def event(call: ast.Call) -> ast.expr | None:
    """What a log call names itself."""
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    if not isinstance(extra, ast.Dict):
        return None
    named = (
        value for key, value in zip(extra.keys, extra.values, strict=True) if key and ast.unparse(key) == "'event'"
    )
    return next(named, None)


def is_named(file: Path, call: ast.Call) -> bool:
    match event(call):
        case ast.Attribute(value=ast.Name(id="LogEvent"), attr=name):
            return name in LogEvent.__members__
        case ast.Subscript(value=ast.Name(id="_EVENTS")):  # by the kind of a notice, and mypy sees to its values
            return True
        case ast.Constant(value=str(name)):
            return file.is_relative_to(SIMULATOR) and name.startswith("simulator.")
        case _:
            return False


def calls() -> list[tuple[Path, ast.Call]]:
    return [(file, call) for file in modules() for call in log_calls(parse(file))]


def test_no_log_line_of_ours_is_without_a_name() -> None:
    found = calls()

    assert len(found) > 30
    assert [where(file, call) for file, call in found if not is_named(file, call)] == []


@pytest.mark.parametrize(
    "line",
    [
        'logger.info("hello")',
        'logger.warning("hello", extra={"batch_id": 7})',
        'logger.log(level, "hello", extra={"event": "made.up"})',
        'logging.getLogger("x").error("hello", extra={"event": LogEvent.NO_SUCH})',
        'workflow.logger.info("hello")',
    ],
)
def test_a_line_without_a_name_or_with_one_that_is_not_known_is_found(line: str) -> None:
    module = ast.parse(f'logger = logging.getLogger("x")\n{line}')

    assert [is_named(ROOT / "worker.py", call) for call in log_calls(module)] == [False]


def test_every_name_is_in_use_and_on_the_page_once_and_no_other_is() -> None:
    used = " ".join(file.read_text() for file in modules())
    told = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)

    assert sorted(told) == sorted(LogEvent)
    assert [name for name in LogEvent.__members__ if f"LogEvent.{name}" not in used] == []


def test_names_are_a_thing_and_what_happened_to_it() -> None:
    assert [name for name in LogEvent if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)] == []
