"""Text that matches a regular expression, best effort: enough for the patterns that people put into schemas."""

import importlib
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

TRIES = 60
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 -_"


def matching_text(pattern: str, rng: Random, least: int = 0, most: int | None = None) -> str:
    """Tries until the text fits both pattern and lengths, and gives the last try if none does."""
    # The standard library's own parser; its module has no public name any more.
    tree = importlib.import_module("re._parser").parse(pattern)
    text = ""
    for attempt in range(TRIES):
        text = _Writer(rng, attempt // 10).text(tree)
        if least <= len(text) <= (len(text) if most is None else most) and re.search(pattern, text):
            break
    return text


class _Writer:
    def __init__(self, rng: Random, extra: int) -> None:
        self.rng = rng
        self.extra = extra
        """How many more repeats than the least are tried."""

    def text(self, nodes: Sequence[Any]) -> str:
        return "".join(self.node(str(op), value) for op, value in nodes)

    def node(self, op: str, value: Any) -> str:
        """Assertions contribute nothing: the finished text is checked as a whole."""
        writers: dict[str, Callable[[Any], str]] = {
            "LITERAL": chr,
            "NOT_LITERAL": lambda refused: "a" if refused != ord("a") else "b",
            "ANY": lambda _: self.rng.choice("abcdef"),
            "CATEGORY": self.category,
            "IN": self.one_of,
            "MAX_REPEAT": self.repeat,
            "MIN_REPEAT": self.repeat,
            "POSSESSIVE_REPEAT": self.repeat,
            "SUBPATTERN": lambda group: self.text(group[-1]),
            "ATOMIC_GROUP": self.text,
            "BRANCH": lambda branches: self.text(self.rng.choice(branches[1])),
        }
        return writers[op](value) if op in writers else ""

    def repeat(self, value: tuple[int, int, Sequence[Any]]) -> str:
        least, most, inner = value
        times = self.rng.randint(least, min(int(most), least + 2 + self.extra))
        return "".join(self.text(inner) for _ in range(times))

    def one_of(self, choices: Sequence[Any]) -> str:
        if str(choices[0][0]) == "NEGATE":
            return next(c for c in ALPHABET if not any(self.contains(choice, c) for choice in choices[1:]))
        op, value = self.rng.choice(choices)
        if str(op) == "RANGE":
            return chr(self.rng.randint(*value))
        return chr(value) if str(op) == "LITERAL" else self.category(value)

    def contains(self, choice: Any, character: str) -> bool:
        op, value = str(choice[0]), choice[1]
        if op == "RANGE":
            return bool(value[0] <= ord(character) <= value[1])
        return ord(character) == value if op == "LITERAL" else _in_category(str(value), character)

    def category(self, value: Any) -> str:
        return self.rng.choice([c for c in ALPHABET if _in_category(str(value), c)])


def _in_category(category: str, character: str) -> bool:
    belongs = character.isalnum() or character == "_"
    if "DIGIT" in category:
        belongs = character.isdigit()
    if "SPACE" in category:
        belongs = character.isspace()
    return belongs != ("NOT" in category)
