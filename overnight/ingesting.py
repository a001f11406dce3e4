"""Sorting out result lines: each is the first for its entry, or a stray.

Nearly all lines of nearly all batches are plain: they succeeded, and there is nothing odd about them. They take a short
way (`read_plain`, then a row made by hand), every other line takes the careful one, and both lead to the same row.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from overnight.batches import Outcome, Usage
from overnight.costs import UNKNOWN, Tariff, WholeCosts
from overnight.fees import NO_FEES, Fees, with_fees
from overnight.positions import PositionSet
from overnight.providers.base import (
    ForeignLineError,
    LineBlock,
    MalformedLineError,
    PlainLine,
    ProviderFacts,
    ResultLine,
    ResultPosition,
    is_utf8,
)
from overnight.storage.result_rows import NewResult, PlainRows
from overnight.storage.results import IngestedBlock, Stray
from overnight.texts import storable

Reading = PlainLine | ResultLine | MalformedLineError
"""What was made of a line. The error is not raised: it is a verdict as good as any."""

Positions = Callable[[Sequence[str]], Awaitable[Sequence[int | None]]]
"""The position of each custom id of the batch; None for one that it has not, such as an empty one."""


TURN = 500
"""Lines that are read before others on the event loop get their turn: the connections that take the block before this
one to Postgres, and bring the next one, must not run dry meanwhile.
"""

DIGITS = re.compile(r"[1-9][0-9]*")


def numbered(label: str, count: int) -> Positions:
    """The positions in a batch of so many entries whose ids all are a label, a hyphen and the position: nobody has to
    be asked.
    """
    start, most = f"{label}-", len(str(count))

    def position(custom_id: str) -> int | None:
        digits = custom_id.removeprefix(start)
        if digits == custom_id or not DIGITS.fullmatch(digits) or len(digits) > most:
            return None
        number = int(digits)
        return number if number <= count else None

    async def positions(custom_ids: Sequence[str]) -> Sequence[int | None]:
        return [position(custom_id) for custom_id in custom_ids]

    return positions


@dataclass(frozen=True, kw_only=True)
class Sorter:
    """Sorts lines for one batch.

    Attributes:
        tariff: what the batch's model cost on the day of its submission.
        positions: finds entries, a block at a time.
        fees: for calls of the provider's own tools.
        seen: positions of the entries that have their result already; it grows as lines are sorted.
        untold: by the name of a tool that answers do not tell the calls of, the entries that it may have run for.
    """

    batch_id: UUID
    facts: ProviderFacts
    token: str
    tariff: Tariff
    positions: Positions
    fees: Fees = field(default_factory=dict)
    seen: PositionSet = field(default_factory=PositionSet)
    untold: Mapping[str, Container[int]] = field(default_factory=dict)
    _costs: WholeCosts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_costs", WholeCosts(self.tariff))

    async def sorted(
        self, blocks: AsyncIterator[LineBlock], position: ResultPosition
    ) -> AsyncGenerator[IngestedBlock, None]:
        """Sort one block after the other, from a position on."""
        async for block in blocks:
            yield await self.sort(block, position)
            position = block.position

    async def sort(self, block: LineBlock, before: ResultPosition) -> IngestedBlock:
        """Give every line of a block its place."""
        readings = await self._readings(block)
        found = await self.positions([_custom_id(reading) for reading in readings])
        rows = PlainRows(self.batch_id, places=self._costs.places)
        results: list[NewResult] = []
        strays: list[Stray] = []
        news = self.seen.put(found)
        for number, (line, reading, position, is_new) in enumerate(
            zip(block.lines, readings, found, news, strict=True)
        ):
            if position is None or not is_new:
                strays.append(self._stray(number, line, reading, is_known=position is not None))
            elif not (type(reading) is tuple and self._add(rows, position, reading, line)):
                parsed = _result_line(reading).with_untold(self._untold(position))
                results.append(new_result(position, parsed, line, self.tariff, self.fees))
        return IngestedBlock(
            before=before,
            after=block.position,
            plain=rows.data(),
            plain_count=len(rows),
            results=results,
            strays=strays,
        )

    async def _readings(self, block: LineBlock) -> Sequence[Reading]:
        readings: list[Reading] = []
        read, token, is_ascii = self.facts.read_plain, self.token, block.is_ascii
        for start in range(0, len(block.lines), TURN):
            readings += [
                ((is_ascii or is_utf8(line)) and read(line, token)) or self._read_carefully(line)
                for line in block.lines[start : start + TURN]
            ]
            await asyncio.sleep(0)
        return readings

    def _read_carefully(self, line: bytes) -> Reading:
        try:
            return self.facts.parse_line(line, self.token)
        except MalformedLineError as error:
            return error

    def _add(self, rows: PlainRows, position: int, said: PlainLine, line: bytes) -> bool:
        """Add a plain line's row, unless its costs are not so simple."""
        if self.untold and self._untold(position):
            return False
        _, spent, read, written, hourly, made, _ = said
        amounts = self._costs.of(spent, read, written, hourly, made)
        if amounts is None and self.tariff.is_known:
            return False
        rows.add(position, said, amounts, line)
        return True

    def _untold(self, position: int) -> list[str]:
        return [tool for tool, positions in self.untold.items() if position in positions]

    def _stray(self, number: int, line: bytes, reading: Reading, *, is_known: bool) -> Stray:
        custom_id = reading.custom_id if isinstance(reading, ForeignLineError) else _custom_id(reading) or None
        kind = "duplicate" if is_known else "unknown"
        if isinstance(reading, MalformedLineError) and not isinstance(reading, ForeignLineError):
            kind = "malformed"
        return Stray(number=number, kind=kind, custom_id=custom_id, line=line)


def new_result(position: int, parsed: ResultLine, line: bytes, tariff: Tariff, fees: Fees = NO_FEES) -> NewResult:
    """The result of an entry, from the first line that names it."""
    cost = tariff.cost_of(parsed.usage) if parsed.is_counted else UNKNOWN
    return NewResult(
        position=position,
        outcome=parsed.outcome,
        usage=parsed.usage,
        cost=with_fees(cost, parsed.provider_calls, fees),
        error_code=parsed.error_code,
        reason=parsed.reason,
        # A line that names its entry stays with it, even where its bytes are not quite text.
        line=storable(line.decode("utf-8", "replace")),
    )


def _custom_id(reading: Reading) -> str:
    if type(reading) is tuple:
        return reading[0]
    return reading.custom_id if isinstance(reading, ResultLine) else ""


def _result_line(reading: Reading) -> ResultLine:
    if isinstance(reading, ResultLine):
        return reading
    assert type(reading) is tuple
    custom_id, spent, read, written, hourly, made, thought = reading
    usage = Usage(
        input_tokens=spent,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hourly,
        output_tokens=made,
        reasoning_tokens=thought,
    )
    return ResultLine(custom_id=custom_id, outcome=Outcome.SUCCEEDED, usage=usage)
