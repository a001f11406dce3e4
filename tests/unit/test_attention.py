"""What somebody must act on is told as such, and is in every list of what needs attention."""

from datetime import timedelta
from uuid import UUID

import pytest

from activities.searching import StillInDoubtError
from overnight import errors
from overnight.batches import BatchStatus
from overnight.contracts import OpenBatch, Trouble
from overnight.errors import OvernightError
from overnight.handling.services import kind_of, needs_attention
from overnight.notices import NoticeKind
from overnight.storage.outputs import HydrateConflictError
from overnight.storage.results import IngestConflictError
from overnight.storage.submissions import SubmissionBusyError, SubmissionDoubtedError
from workflows.showing import Showing

# Waiting mends these, and nothing else does.
WAITED_OUT = {
    errors.TransientProviderError,
    errors.IncompleteResultsError,
    errors.DatabaseError,
    errors.TemporalError,
    HydrateConflictError,
    IngestConflictError,
    SubmissionBusyError,
    SubmissionDoubtedError,
}
# It is waited first, for lists settle; but nobody must create the batch by hand meanwhile, nor overlook that it stays.
IN_DOUBT = {errors.AmbiguousProviderError, StillInDoubtError}
# Never what a step fails with: they belong to the caller, to one entry, to a test, or to starting a server.
ELSEWHERE = {errors.NoOutputError, errors.ResponseError, errors.StuckBatchError, errors.EmbeddedServerError}
ROOTS = {OvernightError, errors.ProviderError, errors.ServerError}


def tree(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(tree(child) for child in cls.__subclasses__()))


ALL = {cls for cls in tree(OvernightError) if cls.__module__ == errors.__name__}
TO_BE_MENDED = ALL - WAITED_OUT - IN_DOUBT - ELSEWHERE - ROOTS


def failure(cls: type[Exception]) -> Exception:
    """One of the class, whatever its constructor wants to know."""
    return cls.__new__(cls)


def flagged(trouble: Trouble | None = None, *, results_lost: bool = False) -> bool:
    showing = Showing(trouble)
    showing.results_lost = results_lost
    return showing.needs_attention


@pytest.mark.parametrize("cls", sorted(WAITED_OUT, key=str))
def test_what_waiting_mends_is_nobodys_affair(cls: type[Exception]) -> None:
    assert (kind_of(failure(cls)), needs_attention(failure(cls))) == (NoticeKind.WAITING, False)


@pytest.mark.parametrize("cls", sorted(IN_DOUBT, key=str))
def test_what_may_exist_twice_is_flagged_and_told_calmly(cls: type[Exception]) -> None:
    assert (kind_of(failure(cls)), needs_attention(failure(cls))) == (NoticeKind.WAITING, True)


@pytest.mark.parametrize("cls", sorted({*TO_BE_MENDED, KeyError, TypeError}, key=str))
def test_everything_else_is_told_urgently_and_flagged(cls: type[Exception]) -> None:
    assert (kind_of(failure(cls)), needs_attention(failure(cls))) == (NoticeKind.ATTENTION, True)


def test_what_the_workflow_tells_itself_is_flagged_as_what_an_earlier_one_told() -> None:
    opened = OpenBatch(
        batch_id=UUID(int=7),
        status=BatchStatus.ENDED,
        provider="openai",
        model="gpt-5.4-mini",
        entry_count=1,
        poll_waits=[],
        max_age=timedelta(hours=1),
        trouble_code="no_handler_worker",
    )
    showing = Showing(None)
    showing.opened(opened)
    assert showing.needs_attention
    assert flagged(Trouble(code="handler_failed", text="It failed."))
    assert flagged(Trouble(code="http_503", text="Overload.", needs_attention=False)) is False
    assert flagged(results_lost=True)
    assert flagged() is False
