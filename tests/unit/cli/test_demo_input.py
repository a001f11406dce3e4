import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.cli.demo.archive import NAME, SHA256, Archive
from overnight.cli.demo.job import plan_work
from overnight.cli.demo.parts import PARTS, Scope
from overnight.cli.demo.snippets import Snippet, agreement, parse, sample
from overnight.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[3]


def snippets(count: int) -> list[Snippet]:
    return [Snippet(id=str(number), text=f"sentence {number}", rating=0.0) for number in range(count)]


def test_a_line_is_an_id_a_rating_and_a_text() -> None:
    assert parse("1_1\t-0.9\tno picture.\r\n1_2\t2\tit's great!") == [
        Snippet(id="1_1", text="no picture.", rating=-0.9),
        Snippet(id="1_2", text="it's great!", rating=2.0),
    ]


def test_a_text_may_hold_tabs_and_any_other_sort_of_line_break() -> None:
    assert [snippet.text for snippet in parse("1\t0\ta\tb\u2028c\x85d\n")] == ["a\tb\u2028c\x85d"]


def test_lines_without_a_text_are_left_out() -> None:
    assert parse("\n1\t0\t \n") == []


@pytest.mark.parametrize(
    ("rating", "sentiment"),
    [(4, "positive"), (0.5, "positive"), (0.49, "neutral"), (-0.49, "neutral"), (-0.5, "negative"), (-4, "negative")],
)
def test_a_rating_from_the_threshold_on_counts(rating: float, sentiment: str) -> None:
    assert Snippet(id="1", text="a", rating=rating).sentiment == sentiment


def test_samples_are_the_same_at_every_run_and_share_nothing() -> None:
    first, second = sample(snippets(100), parts=2, size=30)
    assert [first, second] == sample(snippets(100), parts=2, size=30)
    assert len({snippet.id for snippet in (*first, *second)}) == 60


def test_more_entries_than_there_are_snippets_are_refused() -> None:
    scope = Scope(parts=PARTS, simulated=True)
    assert plan_work(scope, snippets(10), 5).size == 10
    with pytest.raises(ConfigurationError, match="5 at most"):
        plan_work(scope, snippets(10), 6)


def test_agreement_is_told_beside_what_a_constant_answer_would_reach() -> None:
    found = agreement([("positive", "positive"), ("positive", "neutral"), ("negative", "negative"), ("positive", "x")])
    assert (found.share, found.baseline) == (0.5, 0.75)


def test_nothing_agrees_with_nothing() -> None:
    found = agreement([])
    assert (found.share, found.baseline) == (0.0, 0.0)


@given(st.lists(st.tuples(st.sampled_from("pno"), st.sampled_from("pno"))))
def test_agreement_is_a_share(pairs: list[tuple[str, str]]) -> None:
    found = agreement(pairs)
    assert 0 <= found.share <= 1
    assert 0 <= found.baseline <= 1


def test_the_code_and_the_requirements_file_pin_the_same_archive() -> None:
    pinned = (REPOSITORY / "requirements" / "demo-data.txt").read_text()
    assert re.findall(r"--hash=sha256:(\w+)", pinned) == [SHA256]
    assert NAME.replace("-", "==") in pinned


def test_a_missing_archive_is_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make demo-data"):
        Archive(tmp_path)


def test_another_archive_is_not_read(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar.gz").write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match="not the archive that was published"):
        Archive(tmp_path)
