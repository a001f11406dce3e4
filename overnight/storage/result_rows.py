"""Rows of `results` for COPY, made by hand.

This is the one place where speed comes before a driver's comfort: a driver looks at every value of every row, and takes
three times as long as Postgres itself needs for the row. The row of a plain line is binary: one call packs its head,
the line stays byte for byte what it was, and Postgres, which reads text letter by letter, needs a quarter less. All
other rows are few, hold texts and decimals of any kind, and are text.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from overnight.batches import Cost, Outcome, Usage
from overnight.providers.base import PlainLine
from overnight.storage.binary_copy import SIGNATURE, TRAILER

# Null is an empty field.
COPY_RESULTS = """
copy overnight.results (
    batch_id, position, outcome, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
    output_tokens, reasoning_tokens, cost, list_cost, error_code, reason, line
) from stdin (null '')
"""

COPY_PLAIN_RESULTS = """
copy overnight.results (
    batch_id, position, outcome, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
    output_tokens, reasoning_tokens, cost, list_cost, line
) from stdin (format binary)
"""
_COLUMNS = 12

Amounts = tuple[int, int]
"""As billed and as listed, in whole numbers of 10^-12 dollars below 10^16."""

# Each value stands behind its length; what is the same in every row is one piece: number of columns and batch id;
# outcome; the head of a number, whose four digits of base 10,000 follow.
_PRICED = struct.Struct(">26s i 17s q iq iq iq iq iq 12s 4H 12s 4H i")
_UNPRICED = struct.Struct(">26s i 17s q iq iq iq iq iq ii i")
_OUTCOME = struct.pack(">i 9s i", 9, b"succeeded", 8)

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, kw_only=True)
class NewResult:
    """The first line for an entry."""

    position: int
    outcome: Outcome
    usage: Usage
    cost: Cost
    error_code: str | None
    reason: str | None
    line: str


class PlainRows:
    """Rows of lines that succeeded, of one batch. A line is JSON in UTF-8."""

    def __init__(self, batch_id: UUID, *, places: int) -> None:
        """`places` is how many digits behind the point are shown of an amount; they must hold all of it."""
        self._head = struct.pack(">hi 16s i", _COLUMNS, 16, batch_id.bytes, 4)
        digits, weight, sign = 4, 0, 0
        self._number = struct.pack(">ihhHh", 16, digits, weight, sign, places)
        self._pieces: list[bytes] = []

    def add(self, position: int, said: PlainLine, amounts: Amounts | None, line: bytes) -> None:
        """Add the row of a line that says so much, and costs so much; None where nobody knows."""
        _, spent, read, written, hourly, made, thought = said
        counts = spent, 8, read, 8, written, 8, hourly, 8, made, 8, thought
        if amounts is None:
            head = _UNPRICED.pack(self._head, position, _OUTCOME, *counts, -1, -1, len(line))
        else:
            number, (billed, listed) = self._number, amounts
            costs = number, *_digits(billed), number, *_digits(listed)
            head = _PRICED.pack(self._head, position, _OUTCOME, *counts, *costs, len(line))
        self._pieces += (head, line)

    def __len__(self) -> int:
        return len(self._pieces) // 2

    def data(self) -> bytes:
        """All rows, ready to be sent; nothing where there are none."""
        return b"".join((SIGNATURE, *self._pieces, TRAILER)) if self._pieces else b""


def _digits(amount: int) -> tuple[int, int, int, int]:
    # By way of halves, whose numbers are small: the interpreter divides those in half the time.
    high, low = divmod(amount, 10**8)
    return *divmod(high, 10**4), *divmod(low, 10**4)


def rows_of(batch_id: UUID, results: Iterable[NewResult]) -> bytes:
    """Rows of any kind, ready to be sent."""
    return "".join(_row(batch_id, result) for result in results).encode()


def _row(batch_id: UUID, result: NewResult) -> str:
    usage = result.usage
    fields = (
        f"{batch_id}\t{result.position}\t{result.outcome.value}",
        f"{usage.input_tokens}\t{usage.cache_read_tokens}\t{usage.cache_write_tokens}\t{usage.cache_write_1h_tokens}",
        f"{usage.output_tokens}\t{usage.reasoning_tokens}",
        f"{_number(result.cost.billed)}\t{_number(result.cost.list_price)}",
        *((text or "").translate(_ESCAPES) for text in (result.error_code, result.reason, result.line)),
    )
    return "\t".join(fields) + "\n"


def _number(value: Decimal | None) -> str:
    return "" if value is None else str(value)
