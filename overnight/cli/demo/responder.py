"""Who answers in the simulated provider: VADER, a rule-based sentiment classifier, instead of a language model.

C.J. Hutto and E.E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
ICWSM 2014. Its module (MIT licence) is loaded from where the demo unpacked it.
"""

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from overnight.cli.demo.snippets import Sentiment
from overnight.cli.demo.wording import asked_about
from overnight.simulator import ModelReply, ModelRequest

MODULE_VARIABLE = "OVERNIGHT_DEMO_VADER"
"""Names the file of VADER's module."""

_WORD = re.compile(r"[a-z][a-z'-]*")
_DECIDED = 0.05
"""What a compound score must reach, as VADER's authors recommend."""
_MOST_WORDS = 3


class Analyzer(Protocol):
    """What is used of VADER."""

    lexicon: Mapping[str, float]

    def polarity_scores(self, text: str) -> Mapping[str, float]:
        """`compound` is from -1 to 1."""
        ...


class VaderResponder:
    """Answers the demo's question. The simulator makes one, from the environment."""

    def __init__(self, analyzer: Analyzer | None = None) -> None:
        self._analyzer = analyzer or load_analyzer(Path(os.environ[MODULE_VARIABLE]))

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        text = asked_about(request.prompt)
        compound = self._analyzer.polarity_scores(text)["compound"]
        sentiment = sentiment_of(compound)
        answer = {
            "sentiment": sentiment,
            "confidence": round(confidence_of(compound), 2),
            "deciding_words": deciding_words(_WORD.findall(text.lower()), self._analyzer.lexicon, sentiment),
        }
        return ModelReply(value=answer)


def sentiment_of(compound: float) -> Sentiment:
    """The word for a compound score."""
    if compound >= _DECIDED:
        return "positive"
    return "negative" if compound <= -_DECIDED else "neutral"


def confidence_of(compound: float) -> float:
    """VADER has no probability; the strength of its score stands in for one."""
    return 1 - abs(compound) if abs(compound) < _DECIDED else abs(compound)


def deciding_words(words: Iterable[str], lexicon: Mapping[str, float], sentiment: Sentiment) -> list[str]:
    """The words with the strongest feeling, first those that point where the answer does."""
    sign = {"positive": 1, "neutral": 0, "negative": -1}[sentiment]
    found = {word: lexicon[word] for word in words if word in lexicon}
    return sorted(found, key=lambda word: (found[word] * sign <= 0, -abs(found[word])))[:_MOST_WORDS]


def load_analyzer(module: Path) -> Analyzer:
    """Load VADER from its file; it is not an installed package."""
    spec = importlib.util.spec_from_file_location("vaderSentiment", module)
    assert spec is not None
    assert spec.loader is not None
    loaded: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    analyzer: Analyzer = loaded.SentimentIntensityAnalyzer()
    return analyzer
