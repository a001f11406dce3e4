"""Bytes as they arrive -> result lines with their positions.

Lines end at a line feed and nowhere else: answers may hold U+2028, U+0085 and other characters that `str.splitlines`
takes for line ends, unescaped, and that is valid JSON.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from overnight.errors import ProviderError
from overnight.log_events import LogEvent
from overnight.providers.base import LineBlock, ResultPosition

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
        lines = chunk.split(b"\n")
        tail = lines.pop()
        block = self._take(lines, chunk, len(chunk) - len(tail)) if lines else None
        self._hold(tail)
        return block

    def finish(self) -> LineBlock | None:
        """The last line, where the file does not end in a line end."""
        return self._take([b""], b"", 0) if self._held else None

    def _take(self, lines: list[bytes], chunk: bytes, length: int) -> LineBlock | None:
        """The block of lines that so many bytes complete; what is held is the beginning of the first of them."""
        self._offset += self._held + length
        lines[0] = self._first(lines[0])
        if b"\r" in chunk or lines[0].endswith(b"\r"):
            lines = [line.removesuffix(b"\r") for line in lines]
        is_ascii = chunk.isascii() and lines[0].isascii()
        lines = [line for line in lines if line and not line.isspace()]
        return LineBlock(lines=lines, position=self._position(), is_ascii=is_ascii) if lines else None

    def _first(self, end: bytes) -> bytes:
        """The whole first line, or the beginning of one that is too long."""
        line = b"".join(self._parts) if self._too_long else b"".join((*self._parts, end))
        self._parts, self._held, self._too_long = [], 0, False
        if self._at_start:
            line, self._at_start = line.removeprefix(BOM), False
        return line

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


def can_be_whole(line: bytes) -> bool:
    """Whether a last line without a line end can be all of its line: no beginning of a JSON object is JSON."""
    try:
        json.loads(line.decode("utf-8", "replace"))
    except RecursionError:
        return line.rstrip().endswith(b"}")
    except ValueError:
        return False
    return True


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
        is_ascii=all(block.is_ascii for block in blocks),
    )
