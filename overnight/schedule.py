"""When to look at the provider next: a pure function of attempt and age."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

DEFAULT_WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 30))
DEFAULT_MAX_AGE = timedelta(hours=26)


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """The waits between polls, the last of which repeats, and the age at which polling ends.

    The default max age is two hours over the 24 hours within which every provider promises to be done, so that a
    provider that is late by minutes is still heard.

    Attributes:
        waits: how long to wait before poll 1, 2, ...; the last one repeats.
        max_age: how long after submission the batch is waited for.
    """

    waits: Sequence[timedelta] = DEFAULT_WAITS
    max_age: timedelta = DEFAULT_MAX_AGE

    def __post_init__(self) -> None:
        if not self.waits or min(self.waits) <= timedelta(0):
            raise ValueError("A poll schedule needs at least one wait, and every wait must be longer than zero.")
        if self.max_age <= timedelta(0):
            raise ValueError("The max age must be longer than zero.")

    def wait(self, *, polls: int, age: timedelta, asked: timedelta | None = None) -> timedelta:
        """How long to wait after so many polls, at this age of the submission.

        Never beyond max age, so that the deadline is kept to the second. A wait that the provider asked for
        (Retry-After) lengthens the scheduled one, never shortens it.
        """
        scheduled = self.waits[min(polls, len(self.waits) - 1)]
        left = max(self.max_age - age, timedelta(0))
        return min(max(scheduled, asked or timedelta(0)), left)

    def is_over(self, age: timedelta) -> bool:
        """Whether the batch is too old to wait for any longer."""
        return age >= self.max_age
