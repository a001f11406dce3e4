"""How a command ends: its exit code, and its last words."""

from overnight.batches import Batch, Outcome

DONE = 0
FAILED = 1
"""A server or a provider does not answer, or not as it must."""
MISTAKE = 2
"""What was asked for cannot be; nothing was written, sent or paid."""
UNSUCCESSFUL = 3
"""The command did what it should, and the batch was canceled, expired or failed; or the doctor found something."""
PARTIAL = 4
"""The batch ended, and not every entry succeeded."""
INTERRUPTED = 130
READER_GONE = 141
"""Who read our output in a pipe has gone, such as `head`: what a shell says of programs that end by that."""

EXPLAINED = (
    "Exit codes: 0 done. 1 a server or a provider does not answer. 2 a mistake in what was asked: nothing was "
    "written, sent or paid. 3 the batch that was waited for was canceled, expired or failed, or the doctor found "
    "something. 4 it ended, and not every entry succeeded. 130 interrupted. 141 who read the output has gone."
)


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl-C, at a moment where it is to be said what becomes of what was begun."""


def code_of(batch: Batch) -> int:
    """The exit code that says how a batch ended."""
    if not batch.status.is_success:
        return UNSUCCESSFUL
    return DONE if set(batch.outcomes) <= {Outcome.SUCCEEDED} else PARTIAL
