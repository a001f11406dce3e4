"""Sorting out result lines: each is the first for its entry, or a stray. Pure, in memory, no I/O."""

from collections.abc import Mapping, MutableSet
from dataclasses import dataclass

from overnight.costs import Tariff
from overnight.providers.base import (
    ForeignLineError,
    LineBlock,
    MalformedLineError,
    ProviderFacts,
    ResultLine,
    ResultPosition,
)
from overnight.storage.results import IngestedBlock, NewResult, Stray
from overnight.texts import storable


@dataclass(frozen=True, kw_only=True)
class Sorter:
    """Sorts lines for one batch.

    Attributes:
        tariff: what the batch's model cost on the day of its submission.
        positions: the position of each custom id of the batch.
        seen: positions of the entries that have their result already; it grows as lines are sorted.
    """

    facts: ProviderFacts
    token: str
    tariff: Tariff
    positions: Mapping[str, int]
    seen: MutableSet[int]

    def sort(self, block: LineBlock, before: ResultPosition) -> IngestedBlock:
        """Give every line of a block its place."""
        results: list[NewResult] = []
        strays: list[Stray] = []
        for number, line in enumerate(block.lines):
            placed = self._place(number, line)
            (results if isinstance(placed, NewResult) else strays).append(placed)  # type: ignore[arg-type]
        return IngestedBlock(before=before, after=block.position, results=results, strays=strays)

    def _place(self, number: int, line: bytes) -> NewResult | Stray:
        try:
            parsed = self.facts.parse_line(line, self.token)
        except ForeignLineError as error:
            return Stray(number=number, kind="unknown", custom_id=error.custom_id, line=line)
        except MalformedLineError:
            return Stray(number=number, kind="malformed", custom_id=None, line=line)
        position = self.positions.get(parsed.custom_id)
        if position is None:
            return Stray(number=number, kind="unknown", custom_id=parsed.custom_id, line=line)
        if position in self.seen:
            return Stray(number=number, kind="duplicate", custom_id=parsed.custom_id, line=line)
        self.seen.add(position)
        return self._result(position, parsed, line)

    def _result(self, position: int, parsed: ResultLine, line: bytes) -> NewResult:
        return NewResult(
            position=position,
            outcome=parsed.outcome,
            usage=parsed.usage,
            cost=self.tariff.cost_of(parsed.usage),
            error_code=parsed.error_code,
            reason=parsed.reason,
            # A line that names its entry stays with it, even where its bytes are not quite text.
            line=storable(line.decode("utf-8", "replace")),
        )
