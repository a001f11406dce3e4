"""What several commands have in common: options, and how a command's work is run."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from overnight.cli import values

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
    return asyncio.run(work)
