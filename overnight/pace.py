"""How many batches of a campaign run at once: a pure function of what becomes of them."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many batches of a campaign may run at once.

    A provider takes only so many tokens into its queue, and says so by refusing a batch. Then the number is halved, and
    nothing more is started until all refused batches have found room. They go again when others end, as many as the
    number allows, and one at a time where nothing ends. Afterwards the number grows by one for as many batches as it
    counts that ended. It is how TCP finds the width of a line that nobody knows.

    Attributes:
        maximum: what the campaign allows.
        limit: how many may run at present.
        calm: batches that ended since the limit last changed.
        is_held: a batch waits for room at the provider.
    """

    maximum: int
    limit: int
    calm: int = 0
    is_held: bool = False

    @classmethod
    def fresh(cls, maximum: int) -> Self:
        """As fast as the campaign allows: that there is no room is learned by asking."""
        return cls(maximum=maximum, limit=maximum)

    def after(self, *, ended: int, refused: bool) -> "Pace":
        """The pace after another look: so many batches ended since the last one, and some may be without room."""
        if refused:
            return self if self.is_held else replace(self, limit=max(self.limit // 2, 1), calm=0, is_held=True)
        limit, calm = self.limit, self.calm + ended
        while calm >= limit and limit < self.maximum:
            limit, calm = limit + 1, calm - limit
        return replace(self, limit=limit, calm=calm if limit < self.maximum else 0, is_held=False)

    def goes_again(self, *, refused: int, running: int, ended: bool, waited: bool) -> int:
        """How many of the refused batches may be submitted again.

        Args:
            refused: batches without room.
            running: all that run, the refused ones among them.
            ended: some have ended since the last look, so there may be room.
            waited: it was waited in vain; others than ourselves may have made room.
        """
        places = min(max(self.limit - (running - refused), 0), refused)
        return places if ended else min(places, int(waited))

    def starts(self, running: int) -> int:
        """How many more may be started beside those that run."""
        return 0 if self.is_held else max(self.limit - running, 0)
