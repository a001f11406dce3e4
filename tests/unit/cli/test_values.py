from datetime import UTC, datetime, timedelta

import pytest
import typer

from overnight.cli import values


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        (" 30 m ", timedelta(minutes=30)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text: str, wanted: timedelta) -> None:
    assert values.duration(text) == wanted


@pytest.mark.parametrize("text", ["", "7", "d", "-1h", "1y", "1h30m"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="26h"):
        values.duration(text)


def test_since_is_a_moment_or_how_long_ago_it_was() -> None:
    assert values.since("2026-11-22T06:00+01:00") == datetime(2026, 11, 22, 5, tzinfo=UTC)
    assert values.since("2026-11-22").tzinfo is UTC
    before = datetime.now(UTC)
    assert before <= values.since("2h") + timedelta(hours=2) <= datetime.now(UTC)
    with pytest.raises(typer.BadParameter, match="yesterday"):
        values.since("yesterday")


def test_metadata_is_texts_by_key_or_a_whole_object_and_later_ones_win() -> None:
    assert values.metadata(["a=1", "b=x=y", '{"c": [1], "a": 2}']) == {"a": 2, "b": "x=y", "c": [1]}


@pytest.mark.parametrize("part", ["a", "=1", "{", '{"a": }'])
def test_metadata_that_is_neither_is_refused(part: str) -> None:
    with pytest.raises(typer.BadParameter):
        values.metadata([part])
