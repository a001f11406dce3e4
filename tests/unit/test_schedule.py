from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.schedule import DEFAULT_MAX_AGE, PollSchedule

NOTHING = timedelta(0)
durations = st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=3))
ages = st.timedeltas(min_value=NOTHING, max_value=timedelta(days=4))
asked_waits = st.none() | st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=2))
schedules = st.builds(PollSchedule, waits=st.lists(durations, min_size=1, max_size=6), max_age=durations)


@given(schedules, st.integers(0, 50), ages, asked_waits)
def test_no_wait_reaches_beyond_the_deadline(
    schedule: PollSchedule, polls: int, age: timedelta, asked: timedelta | None
) -> None:
    wait = schedule.wait(polls=polls, age=age, asked=asked)
    assert wait >= NOTHING
    assert age + wait <= max(schedule.max_age, age)


@given(schedules, st.integers(0, 50), ages, asked_waits)
def test_what_the_provider_asks_for_lengthens_a_wait_and_never_shortens_it(
    schedule: PollSchedule, polls: int, age: timedelta, asked: timedelta | None
) -> None:
    unasked = schedule.wait(polls=polls, age=age)
    left = max(schedule.max_age - age, NOTHING)
    assert schedule.wait(polls=polls, age=age, asked=asked) == min(max(unasked, asked or NOTHING), left)


@given(schedules, st.integers(0, 50))
def test_the_last_wait_repeats(schedule: PollSchedule, more: int) -> None:
    last = len(schedule.waits) - 1
    assert schedule.wait(polls=last + more, age=NOTHING) == schedule.wait(polls=last, age=NOTHING)


@given(schedules, st.integers(0, 50), ages)
def test_a_wait_is_nothing_exactly_when_the_batch_is_too_old(
    schedule: PollSchedule, polls: int, age: timedelta
) -> None:
    assert (schedule.wait(polls=polls, age=age) == NOTHING) == schedule.is_over(age)


def test_the_default_waits_are_one_two_five_ten_and_then_always_thirty_minutes() -> None:
    waits = [PollSchedule().wait(polls=polls, age=NOTHING) for polls in range(7)]
    assert [wait / timedelta(minutes=1) for wait in waits] == [1, 2, 5, 10, 30, 30, 30]


def test_by_default_a_batch_is_waited_for_until_26_hours_have_passed_to_the_microsecond() -> None:
    assert not PollSchedule().is_over(timedelta(hours=26, microseconds=-1))
    assert PollSchedule().is_over(timedelta(hours=26))
    assert timedelta(hours=26) == DEFAULT_MAX_AGE


@pytest.mark.parametrize("waits", [(), (NOTHING,), (timedelta(minutes=1), timedelta(seconds=-1))])
def test_a_schedule_without_a_real_wait_is_refused(waits: tuple[timedelta, ...]) -> None:
    with pytest.raises(ValueError, match="wait"):
        PollSchedule(waits=waits)


@pytest.mark.parametrize("max_age", [NOTHING, timedelta(seconds=-1)])
def test_a_schedule_without_time_is_refused(max_age: timedelta) -> None:
    with pytest.raises(ValueError, match="max age"):
        PollSchedule(max_age=max_age)
