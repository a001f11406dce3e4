"""A batch's state is a function of stored facts and the time, and a well-behaved one."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overnight.simulator import BatchEffect
from overnight.simulator.lifecycle import TERMINAL, state, timeline
from overnight.simulator.records import BatchErrorRecord, BatchRecord, StoredStages

ORDER = ["validating", "in_progress", "finalizing", "canceling", "ended", "canceled", "expired", "failed"]
seconds = st.floats(0, 100, allow_nan=False)
moments = st.none() | st.floats(0, 400)
EFFECTS = [
    (),
    (BatchEffect(how="expire", share=0.5),),
    (BatchEffect(how="cancel_by_itself", share=0.5),),
    (BatchEffect(how="archive"),),
]


def record(**changes: Any) -> BatchRecord:
    stages = StoredStages(validating=10, in_progress=100, finalizing=10, canceling=10, window=86_400)
    facts = {
        "id": "b",
        "provider": "openai",
        "client": "",
        "created_at": 0.0,
        "stages": stages,
        "total": 10,
        "endpoint": "x",
    }
    return BatchRecord(**{**facts, **changes})


batches = st.builds(
    lambda stages, total, cancel_at, finish_at, effects, failure: record(
        stages=stages, total=total, cancel_at=cancel_at, finish_at=finish_at, effects=effects, failure=failure
    ),
    st.builds(
        StoredStages, validating=seconds, in_progress=seconds, finalizing=seconds, canceling=seconds, window=seconds
    ),
    st.integers(1, 50),
    moments,
    moments,
    st.sampled_from(EFFECTS),
    st.sampled_from([(), (BatchErrorRecord(code="empty_file", message="Empty."),)]),
)


@given(batch=batches, times=st.lists(st.floats(0, 1000), min_size=2).map(sorted))
def test_no_stage_is_ever_left_backwards_and_no_entry_is_undone(batch: BatchRecord, times: list[float]) -> None:
    seen = [state(batch, now) for now in times]
    places = [ORDER.index(one.stage) for one in seen]
    assert places == sorted(places)
    done = [one.done for one in seen]
    assert done == sorted(done)
    assert all(0 <= count <= batch.total for count in done)


@given(batch=batches)
def test_every_batch_comes_to_an_end_and_stays_there(batch: BatchRecord) -> None:
    end = timeline(batch).closed_at
    first, later = state(batch, end), state(batch, end + 10_000)
    assert first.stage == later.stage in TERMINAL
    assert first.done == later.done


@given(batch=batches)
def test_only_a_batch_that_ended_has_finished_everything_by_right(batch: BatchRecord) -> None:
    seen = state(batch, 10_000)
    if seen.stage == "ended":
        assert seen.done == batch.total
    if seen.stage == "failed":
        assert seen.done == 0


def test_a_cancel_after_the_end_changes_nothing() -> None:
    assert state(record(cancel_at=120.0), 500).stage == "ended"


def test_a_cancel_while_finalizing_cancels_a_batch_whose_work_is_done() -> None:
    seen = state(record(cancel_at=115.0), 500)
    assert (seen.stage, seen.done) == ("canceled", 10)


def test_a_cancel_while_validating_leaves_nothing_done() -> None:
    seen = state(record(cancel_at=5.0), 500)
    assert (seen.stage, seen.done) == ("canceled", 0)


def test_a_finish_ends_the_batch_with_everything_done() -> None:
    seen = state(record(finish_at=20.0), 20.0)
    assert (seen.stage, seen.done) == ("ended", 10)
