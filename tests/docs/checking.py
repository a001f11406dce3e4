"""Looks at the form of blocks: what is parsed rather than run, and the commands of shell blocks that are not run."""

import ast
import configparser
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

import typer
import yaml
from typer.main import get_command

from overnight.cli.app import app
from tests.docs.blocks import ROOT, Block

PROSE = frozenset({"text", "console"})
RUN = frozenset({"python", "bash", "sql"})

_CONTINUED = re.compile(r"\\\n\s*")
_EXTRAS = re.compile(r"overnight\[([\w,]+)\]")
_OPERATORS = frozenset({"|", "&&", "||", ";", "&"})


def check(block: Block) -> None:
    """Raise if a block is not what its language says."""
    CHECKS[block.language](block)


def _python(block: Block) -> None:
    compile(block.code, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _bash(block: Block) -> None:
    done = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.where}: {done.stderr}"
    for command in commands(block.code):
        known_command(command, block.where)


def _json(block: Block) -> None:
    lines = block.code.splitlines() if (block.file or "").endswith(".jsonl") else [block.code]
    for line in lines:
        json.loads(line)


CHECKS: Mapping[str, Callable[[Block], object]] = {
    "python": _python,
    "bash": _bash,
    "json": _json,
    "toml": lambda block: tomllib.loads(block.code),
    "yaml": lambda block: list(yaml.safe_load_all(block.code)),
    "ini": lambda block: configparser.ConfigParser().read_string(block.code),
}


def commands(code: str) -> Iterator[list[str]]:
    """The simple commands of a shell block."""
    for line in _CONTINUED.sub(" ", code).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, command = True, list[str]()
        for word in lexer:
            if word in _OPERATORS:
                yield command
                command = []
            else:
                command.append(word)
        yield command


def known_command(command: list[str], where: str) -> None:
    """Hold a command against what there is: options of our own, extras, targets of make."""
    words = [word for word in command if not re.match(r"\w+=", word)]
    match words[:2]:
        case ["overnight", *_]:
            _known_to_typer(words[1:], where)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{where}: make {target}"
        case ["pip", _]:
            assert extras(" ".join(words)) <= known_extras(), where
        case _:
            pass


def _known_to_typer(words: list[str], where: str) -> None:
    command, group = get_command(app), typer.Context(get_command(app))
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{where}: overnight has no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(
        "overnight",
        [word.replace("BATCH_ID", str(UUID(int=0))) for word in words if word not in (">", "<")],
        parent=group,
    )


def extras(text: str) -> set[str]:
    """The extras that a text asks for."""
    return {name for names in _EXTRAS.findall(text) for name in names.split(",")}


def known_extras() -> set[str]:
    """The extras that there are."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
