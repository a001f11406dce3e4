"""What several commands have in common: options, and how a command's work is run."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from overnight.cli import values
from overnight.cli.ending import READER_GONE

T = TypeVar("T")

RUNNING, BATCHES = "Servers and tools", "Batches"

Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module that defines Tasks and handlers, e.g. my_app.batches; may be given more than once.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BatchId = Annotated[
    str,
    typer.Argument(
        metavar="BATCH_ID", parser=values.batch_id, help="A batch id, or its beginning.", show_default=False
    ),
]


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end."""
    try:
        result = asyncio.run(work)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer would be written at the exit, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_GONE) from None
    return result
