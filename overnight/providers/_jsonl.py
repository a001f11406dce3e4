"""Bytes as they arrive -> result lines with their positions.

Lines end at a line feed and nowhere else: answers may hold U+2028, U+0085 and other characters that `str.splitlines`
takes for line ends, unescaped, and that is valid JSON.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from overnight.errors import ProviderError
from overnight.log_events import LogEvent
from overnight.providers.base import LineBlock, ResultPosition, has_odd_bytes

logger = logging.getLogger(__name__)

MAX_LINE = 256 * 1024 * 1024
"""No provider's whole input is larger; a line beyond it is not an answer but a broken file."""
KEPT_OF_LONG_LINE = 1000

BLOCK_BYTES = 4 * 1024 * 1024
"""What is committed at once: enough that the commit costs little, and little enough to hold several of."""

BOM = b"\xef\xbb\xbf"


class LineSplitter:
    """Splits one result file that is fed in pieces, from a position on.

    A line longer than `max_line` is cut to its beginning, which no adapter can parse: it ends among the stray results
    and the rest of the file is read as usual. Raising instead would keep the batch from ever being finished.
    """

    def __init__(self, position: ResultPosition, *, start: int = 0, max_line: int = MAX_LINE) -> None:
        """`start` is where in the file the pieces begin: at the position or anywhere before it."""
        self._source = position.source
        self._offset = position.offset
        self._to_skip = position.offset - start
        self._at_start = position.offset == 0
        self._parts: list[bytes] = []
        self._held = 0
        self._too_long = False
        self._max_line = max_line

    @property
    def missing(self) -> int:
        """Bytes that the file would still need in order to reach the position where reading was to resume."""
        return self._to_skip

    def feed(self, chunk: bytes) -> LineBlock | None:
        """The lines that this piece completes, or None where it completes none that is not blank."""
        if self._to_skip:
            skipped = min(self._to_skip, len(chunk))
            self._to_skip -= skipped
            chunk = chunk[skipped:]
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._hold(tail)
            return None
        block = self._take(head, line_end=1)
        self._hold(tail)
        return block

    def finish(self) -> LineBlock | None:
        """The last line, where the file does not end in a line end."""
        return self._take(b"", line_end=0) if self._held else None

    def _take(self, head: bytes, *, line_end: int) -> LineBlock | None:
        self._offset += self._held + len(head) + line_end
        if self._too_long:
            _, newline, rest = head.partition(b"\n")
            head = newline + rest
        whole = b"".join((*self._parts, head)) if self._parts else head
        self._parts, self._held, self._too_long = [], 0, False
        is_plain = not has_odd_bytes(whole)
        lines = self._lines(whole, line_end=b"" if is_plain else b"\r")
        return LineBlock(lines=lines, position=self._position(), is_plain=is_plain) if lines else None

    def _lines(self, whole: bytes, *, line_end: bytes) -> Sequence[bytes]:
        if self._at_start:
            whole, self._at_start = whole.removeprefix(BOM), False
        lines = [line for line in whole.split(b"\n") if line and not line.isspace()]
        return [line.removesuffix(line_end) for line in lines] if line_end else lines

    def _hold(self, tail: bytes) -> None:
        """Keep the beginning of a line, in pieces: joining at every chunk would take quadratic time."""
        if not tail:
            return
        self._held += len(tail)
        if self._too_long:
            return
        self._parts.append(tail)
        if self._held > self._max_line:
            logger.warning(
                "A line of result file %r is longer than %d bytes; it is cut.",
                self._source,
                self._max_line,
                extra={"event": LogEvent.RESULT_LINE_CUT},
            )
            self._parts, self._too_long = [b"".join(self._parts)[:KEPT_OF_LONG_LINE]], True

    def _position(self) -> ResultPosition:
        return ResultPosition(source=self._source, offset=self._offset)


async def gathered(blocks: AsyncIterator[LineBlock], *, size: int | None = None) -> AsyncGenerator[LineBlock, None]:
    """The same lines of one file in larger blocks. What came before an error comes before the error."""
    enough = BLOCK_BYTES if size is None else size
    held: list[LineBlock] = []
    try:
        async for block in blocks:
            held.append(block)
            if block.position.offset - held[0].position.offset >= enough:
                yield _joined(held)
                held = []
    except ProviderError:
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _joined(blocks: Sequence[LineBlock]) -> LineBlock:
    return LineBlock(
        lines=[line for block in blocks for line in block.lines],
        position=blocks[-1].position,
        is_plain=all(block.is_plain for block in blocks),
    )
