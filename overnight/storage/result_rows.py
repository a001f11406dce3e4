"""Rows of `results` in the text form of COPY, made by hand.

This is the one place where speed comes before a driver's comfort: a driver looks at every value of every row, and takes
three times as long as Postgres itself needs for the row. A plain line is kept byte for byte, behind a short head, and
one replacement over the whole block escapes all its lines.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from overnight.batches import Cost, Outcome, Usage
from overnight.providers.base import PlainLine

# Null is an empty field and not COPY's usual `\N`, whose backslash the replacement would double.
COPY_RESULTS = """
copy overnight.results (
    batch_id, position, outcome, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
    output_tokens, reasoning_tokens, cost, list_cost, error_code, reason, line
) from stdin (null '')
"""

Costs = tuple[Decimal | None, Decimal | None]
"""As billed, and as listed; None where nobody knows."""

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
    """Rows of lines that succeeded, of one batch.

    A line is JSON in UTF-8 and holds no raw tab, carriage return or line feed; escaped ones are JSON's own business.
    """

    def __init__(self, batch_id: UUID) -> None:
        self._head = f"{batch_id}\t"
        self._pieces: list[bytes] = []

    def add(self, position: int, said: PlainLine, costs: Costs, line: bytes) -> None:
        """Add the row of a line that says so much, and costs so much."""
        billed, listed = costs
        _, spent, read, written, hourly, made, thought = said
        self._pieces += (
            f"{self._head}{position}\tsucceeded\t{spent}\t{read}\t{written}\t{hourly}\t{made}\t{thought}"
            f"\t{'' if billed is None else billed!s}\t{'' if listed is None else listed!s}\t\t\t".encode(),
            line,
            b"\n",
        )

    def __len__(self) -> int:
        return len(self._pieces) // 3

    def data(self) -> bytes:
        """All rows, ready to be sent."""
        return b"".join(self._pieces).replace(b"\\", b"\\\\")


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
