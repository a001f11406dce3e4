"""How a campaign's entries are cut into batches: a function of their sizes, no I/O."""

from dataclasses import dataclass
from typing import Self

from overnight.providers.base import Limits

# Limits are the providers' word, and how they count bytes is not always what they say: a twentieth stays free.
_MARGIN = 20


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one batch of a campaign may hold: the provider's limits, less a margin.

    Attributes:
        frame_bytes: the most bytes that framing adds to one entry.
        max_inputs: how many texts the entries may hold together, where several fit into one; None where nobody counts.
    """

    max_entries: int
    max_bytes: int
    frame_bytes: int
    max_inputs: int | None = None

    @classmethod
    def of(cls, limits: Limits, *, frame_bytes: int, max_entries: int | None = None) -> Self:
        """The share that a provider's limits leave; `max_entries` makes batches smaller, and never larger."""
        entries, inputs = limits.max_entries - limits.max_entries // _MARGIN, limits.max_inputs
        return cls(
            max_entries=min(entries, max_entries or entries),
            max_bytes=limits.max_bytes - limits.max_bytes // _MARGIN,
            frame_bytes=frame_bytes,
            max_inputs=inputs and inputs - inputs // _MARGIN,
        )


class Planner:
    """Fills one batch after the other, in the order of adding: the next one is opened when an entry does not fit."""

    def __init__(self, share: Share, *, entry_count: int = 0, request_bytes: int = 0, input_count: int = 0) -> None:
        self._share = share
        self.entry_count, self.request_bytes, self.input_count = entry_count, request_bytes, input_count

    def has_room(self, entry_bytes: int, inputs: int = 1) -> bool:
        """Whether the batch can hold one more entry, of so many bytes of custom id and request."""
        share, count = self._share, self.entry_count + 1
        framed = self.request_bytes + entry_bytes + count * share.frame_bytes
        countable = share.max_inputs is None or self.input_count + inputs <= share.max_inputs
        return count <= share.max_entries and framed <= share.max_bytes and countable

    def take(self, entry_bytes: int, inputs: int = 1) -> int:
        """Count one entry in, and return its position."""
        self.entry_count += 1
        self.request_bytes += entry_bytes
        self.input_count += inputs
        return self.entry_count

    def open_next(self) -> None:
        """Begin an empty batch."""
        self.entry_count = self.request_bytes = self.input_count = 0
