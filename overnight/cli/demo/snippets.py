"""The demo's input: snippets of product reviews, each rated by people."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Sentiment = Literal["positive", "neutral", "negative"]

POSITIVE_FROM, NEGATIVE_FROM = 0.5, -0.5
"""What a mean rating must reach to count as positive or negative; what lies between is neutral."""

_SEED = 2014


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A sentence or part of one, with the mean of what people rated it, from -4 to 4."""

    id: str
    text: str
    rating: float

    @property
    def custom_id(self) -> str:
        """What results are matched by."""
        return f"snippet-{self.id}"

    @property
    def sentiment(self) -> Sentiment:
        """What people felt in it."""
        if self.rating >= POSITIVE_FROM:
            return "positive"
        return "negative" if self.rating <= NEGATIVE_FROM else "neutral"


def parse(text: str) -> list[Snippet]:
    """Lines of `id TAB mean rating TAB text`. Lines without text cannot be asked about and are left out."""
    # Not `splitlines`, which also breaks at characters that are part of a text.
    rows = (line.rstrip("\r").split("\t", 2) for line in text.split("\n") if line.strip())
    return [Snippet(id=row[0], rating=float(row[1]), text=row[2].strip()) for row in rows if row[2].strip()]


def sample(snippets: Sequence[Snippet], *, parts: int, size: int) -> list[list[Snippet]]:
    """So many disjoint samples of one size; the same ones at every run.

    Raises:
        ValueError: there are not that many snippets.
    """
    chosen = Random(_SEED).sample(snippets, parts * size)  # noqa: S311 - chance is for variety here
    return [chosen[part * size : (part + 1) * size] for part in range(parts)]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often answers agree with people."""

    agreeing: int
    total: int
    most_frequent: int
    """How often always answering what people felt most often would agree: what an answer must beat."""

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.agreeing / self.total if self.total else 0.0

    @property
    def baseline(self) -> float:
        """From 0 to 1."""
        return self.most_frequent / self.total if self.total else 0.0


def agreement(pairs: Iterable[tuple[str, str]]) -> Agreement:
    """Count over pairs of (what people felt, what was answered)."""
    felt = list(pairs)
    counts = Counter(people for people, _ in felt)
    return Agreement(
        agreeing=sum(people == answer for people, answer in felt),
        total=len(felt),
        most_frequent=max(counts.values(), default=0),
    )
