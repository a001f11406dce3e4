"""Which providers the demo asks, and whether they are real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from overnight.cli.environment import PROVIDERS
from overnight.errors import MissingKeyError, UnknownProviderError

CHOICE_VARIABLE = "OVERNIGHT_DEMO_PROVIDER"

_QUICK_POLLS = (timedelta(seconds=1), timedelta(seconds=1), timedelta(seconds=2))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One batch of the demo."""

    provider: str
    model: str
    endpoint: str


PARTS = (
    Part(provider="openai", model="gpt-5.4-mini", endpoint="/v1/responses"),
    Part(provider="anthropic", model="claude-haiku-4-5", endpoint="/v1/messages"),
)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What one run of the demo does."""

    parts: Sequence[Part]
    simulated: bool

    @property
    def name(self) -> str:
        """Of the folder that holds its state."""
        return "simulated" if self.simulated else self.parts[0].provider

    @property
    def poll_waits(self) -> Sequence[timedelta] | None:
        """Short ones where a batch takes seconds; the deployment's where it takes hours."""
        return _QUICK_POLLS if self.simulated else None


def choose(environment: Mapping[str, str]) -> Scope:
    """Both providers, simulated, unless the environment asks for a real one.

    Raises:
        UnknownProviderError: it asks for one that the demo does not know.
        MissingKeyError: it asks for one and has no key for it.
    """
    wanted = environment.get(CHOICE_VARIABLE)
    if not wanted:
        return Scope(parts=PARTS, simulated=True)
    parts = [part for part in PARTS if part.provider == wanted]
    if not parts:
        known = " or ".join(part.provider for part in PARTS)
        raise UnknownProviderError("provider", wanted, f"Set {CHOICE_VARIABLE} to {known}, or unset it.")
    if not environment.get(PROVIDERS[wanted].key):
        raise MissingKeyError(wanted, PROVIDERS[wanted].key)
    return Scope(parts=parts, simulated=False)
