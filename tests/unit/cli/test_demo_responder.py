from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from overnight.cli.demo import wording
from overnight.cli.demo.responder import VaderResponder, deciding_words, load_analyzer
from overnight.cli.demo.reviews import JudgeReview, Verdict
from overnight.simulator import Message, ModelRequest

LEXICON = {"great": 3.1, "fine": 0.8, "broke": -2.0, "awful": -2.5}


class FakeAnalyzer:
    lexicon: Mapping[str, float] = LEXICON

    def __init__(self, compound: float) -> None:
        self.compound = compound
        self.asked: list[str] = []

    def polarity_scores(self, text: str) -> Mapping[str, float]:
        self.asked.append(text)
        return {"compound": self.compound, "pos": 0.5}


def request_for(text: str) -> ModelRequest:
    prompt = JudgeReview(snippet="snippet-1", text=text).prompt()
    return ModelRequest(
        provider="openai",
        endpoint="/v1/responses",
        model="gpt-5.4-mini",
        custom_id="snippet-1",
        messages=(Message(role="system", text=wording.SYSTEM), Message(role="user", text=prompt)),
        body={},
        rng=Random(0),
        input_tokens=1,
    )


def answer(compound: float, text: str = "Great, but it broke.") -> Verdict:
    return Verdict.model_validate(VaderResponder(FakeAnalyzer(compound))(request_for(text)).value)


@pytest.mark.parametrize(
    ("compound", "sentiment", "confidence"),
    [
        (0.6, "positive", 0.6),
        (0.05, "positive", 0.05),
        (0.0, "neutral", 1.0),
        (-0.049, "neutral", 0.95),
        (-1.0, "negative", 1.0),
    ],
)
def test_a_score_becomes_a_verdict_that_fits_the_tasks_output(
    compound: float, sentiment: str, confidence: float
) -> None:
    verdict = answer(compound)
    assert (verdict.sentiment, verdict.confidence) == (sentiment, confidence)


def test_only_the_sentence_is_judged_and_not_the_words_that_ask() -> None:
    analyzer = FakeAnalyzer(0.3)
    VaderResponder(analyzer)(request_for("works:\n\nlike a charm"))
    assert analyzer.asked == ["works:\n\nlike a charm"]


def test_words_that_point_where_the_answer_does_come_first() -> None:
    words = ["great", "it", "broke", "fine", "awful"]
    assert deciding_words(words, LEXICON, "positive") == ["great", "fine", "awful"]
    assert deciding_words(words, LEXICON, "negative") == ["awful", "broke", "great"]
    assert deciding_words(words, LEXICON, "neutral") == ["great", "awful", "broke"]


def test_a_sentence_without_known_words_was_decided_by_none() -> None:
    assert answer(0.0, "the box is 7 inches wide").deciding_words == []


def test_an_analyzer_is_loaded_from_its_file_and_not_from_an_installed_package(tmp_path: Path) -> None:
    module = tmp_path / "vaderSentiment.py"
    module.write_text("class SentimentIntensityAnalyzer:\n    lexicon = {'good': 1.9}\n")
    assert load_analyzer(module).lexicon == {"good": 1.9}
