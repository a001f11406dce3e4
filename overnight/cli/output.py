"""Standard output, whose reader may leave before its end, as `head` does.

Whoever prints gets the BrokenPipeError then, and libraries differ in what they make of it: typer and rich end the
process with 1, which is our word for a server that does not answer. So the stream itself notes what has happened.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Descriptor(io.FileIO):
    is_broken = False

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self.is_broken = True
            raise


class Reader:
    """Who reads what we print."""

    def __init__(self, descriptor: _Descriptor | None = None) -> None:
        self._descriptor = descriptor

    @property
    def is_gone(self) -> bool:
        """Whether something was written that nobody will read."""
        return self._descriptor is not None and self._descriptor.is_broken


@contextmanager
def watched_output() -> Iterator[Reader]:
    """Learn whether the reader of standard output goes, which ends the block. Terminals stay as they are, and so does
    what somebody has put in the place of standard output, such as a test.
    """
    ours = sys.stdout
    if ours is not sys.__stdout__ or not isinstance(ours, io.TextIOWrapper) or ours.isatty():
        yield Reader()
        return
    ours.flush()
    descriptor = _Descriptor(ours.fileno(), "wb", closefd=False)
    sys.stdout = _like(ours, descriptor)
    try:
        yield Reader(descriptor)
    except BrokenPipeError:
        if not descriptor.is_broken:
            raise
    finally:
        with suppress(BrokenPipeError):  # it is noted
            sys.stdout.flush()
        sys.stdout = ours


def _like(ours: io.TextIOWrapper, descriptor: _Descriptor) -> io.TextIOWrapper:
    """With PYTHONUNBUFFERED there is nothing between the text and the descriptor."""
    is_buffered = isinstance(ours.buffer, io.BufferedWriter)
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor) if is_buffered else cast("io.BufferedWriter", descriptor),
        encoding=ours.encoding,
        errors=ours.errors,
        line_buffering=ours.line_buffering,
        write_through=ours.write_through,
    )
