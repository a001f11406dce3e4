"""The `overnight` command.

Nothing but the standard library is needed here: the demo's worker and simulator import modules of this package, and
`overnight --help` must not wait for database drivers and the Temporal SDK.
"""

import os
import sys
from collections.abc import Sequence

from overnight.cli.output import watched_output

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit codes are those of `overnight.cli.ending`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: nobody wants to hear it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for as long as the process lives
    with watched_output() as reader:
        code = _ended(arguments)
    if reader.is_gone:
        from overnight.cli.ending import READER_GONE  # noqa: PLC0415 - slow, and rarely needed

        return READER_GONE
    return code


def _ended(arguments: Sequence[str] | None) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _interrupted()


def _run(arguments: Sequence[str] | None) -> int:
    from overnight.cli.app import app  # noqa: PLC0415 - a Ctrl-C during this import must end in one line too
    from overnight.cli.ending import FAILED, MISTAKE, Interrupted  # noqa: PLC0415 - "
    from overnight.errors import OvernightError, UsageError  # noqa: PLC0415 - "

    try:
        app(arguments, prog_name="overnight")
    except SystemExit as end:
        return _interrupted() if end.code == INTERRUPTED else end.code  # type: ignore[return-value]  # typer's are int
    except Interrupted as end:
        return _interrupted(str(end))
    except OvernightError as error:
        _tell(error)
        return MISTAKE if isinstance(error, UsageError) else FAILED
    return 0


def _interrupted(what: str = "everything that this command started is stopped.") -> int:
    print(f"Interrupted: {what}", file=sys.stderr)  # noqa: T201 - last words
    return INTERRUPTED


def _tell(error: Exception) -> None:
    """The first line in red; further ones, such as the end of a server's log, as they are."""
    from rich.console import Console  # noqa: PLC0415 - only needed when something went wrong
    from rich.text import Text  # noqa: PLC0415 - "

    from overnight.texts import visible  # noqa: PLC0415 - "

    first, _, rest = visible(str(error)).partition("\n")
    console = Console(stderr=True)
    console.print(Text(f"overnight: {first}", style="red"), soft_wrap=True)
    if rest:
        console.print(Text(rest), soft_wrap=True)
