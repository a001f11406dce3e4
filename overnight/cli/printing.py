"""Printing, for people and for programs. What is printed holds foreign texts, which a terminal must not obey."""

import json
import sys
from typing import Any

import typer
from rich.console import Console

from overnight.texts import visible

_WIDTH_WITHOUT_TERMINAL = 200


def console(*, stderr: bool = False) -> Console:
    """A console that takes texts as they are: brackets in them are no markup, and colons no emoji."""
    shown = Console(markup=False, emoji=False, highlight=False, stderr=stderr)
    if not shown.is_terminal:
        # What is not shown to a person is read by a program, and must not be cut to fit a screen that is not there.
        return Console(width=_WIDTH_WITHOUT_TERMINAL, markup=False, emoji=False, highlight=False, stderr=stderr)
    return shown


def print_json(value: Any) -> None:
    """A whole document."""
    typer.echo(json.dumps(value, indent=2))


def print_json_line(value: Any) -> None:
    """One of many: a line of its own, which a reader has at once."""
    typer.echo(json.dumps(value))
    sys.stdout.flush()


def say(text: str) -> None:
    """A sentence."""
    typer.echo(visible(text))


def remark(text: str) -> None:
    """A sentence beside what was asked for, on stderr."""
    typer.echo(visible(text), err=True)
