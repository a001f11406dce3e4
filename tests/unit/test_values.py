"""Ids, texts, and the words for states."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.batches import TERMINAL, Batch, BatchStatus, Outcome
from overnight.ids import new_batch_id
from overnight.testing.values import finished_batch
from overnight.texts import storable

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def test_a_batch_id_is_a_uuid_of_version_7() -> None:
    ids = [new_batch_id() for _ in range(1000)]
    assert {batch_id.version for batch_id in ids} == {7}
    assert {batch_id.variant for batch_id in ids} == {UUID(int=0x8000 << 48).variant}
    assert len(set(ids)) == 1000


def test_batch_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(1_700_000_000_000_000_000, 1_700_000_001_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    ids = [new_batch_id() for _ in range(500)]
    assert sorted(ids) == ids
    assert sorted(map(str, ids)) == list(map(str, ids))


def test_a_batch_id_carries_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = new_batch_id().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_made_storable(text: str) -> None:
    made = storable(text)
    made.encode()
    assert "\x00" not in made
    assert storable(made) == made


@pytest.mark.parametrize("text", ["", "plain", "line one\nline two\r\n\ttabbed", "\u2028\u0085", "\N{GRINNING FACE}é"])
def test_text_that_can_be_stored_stays_as_it_is(text: str) -> None:
    assert storable(text) == text


def test_there_are_seven_statuses_and_the_last_four_are_terminal() -> None:
    words = ["pending", "submitted", "in_progress", "ended", "canceled", "expired", "failed"]
    assert [status.value for status in BatchStatus] == words
    assert [status.value for status in BatchStatus if status.is_terminal] == words[3:]
    assert {status.value for status in TERMINAL} == set(words[3:])


def test_only_ended_is_success() -> None:
    assert [status for status in BatchStatus if status.is_success] == [BatchStatus.ENDED]


def test_there_are_six_outcomes() -> None:
    assert {outcome.value for outcome in Outcome} == {
        "succeeded",
        "errored",
        "canceled",
        "expired",
        "missing",
        "invalid",
    }


def batch() -> Batch:
    return replace(finished_batch(), submitted_at=NOW, ended_at=NOW + timedelta(hours=3))


def test_how_long_a_batch_waited_is_known_once_it_was_accepted_and_is_over() -> None:
    assert batch().waited == timedelta(hours=3)
    assert replace(batch(), ended_at=None).waited is None
    assert replace(batch(), submitted_at=None).waited is None
