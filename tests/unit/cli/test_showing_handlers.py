"""What `overnight show` says of handlers that are elsewhere."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from overnight.batches import Batch
from overnight.cli.batches import handled, handler_of


def batch(**known: Any) -> Batch:
    unknown = dict.fromkeys(["handler", "handler_activity", "handler_task_queue", "ingested_at"])
    return cast("Batch", SimpleNamespace(**{**unknown, "handler_dispatched_at": None, **known}))


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({}, None),
        ({"handler": "Save"}, "Save"),
        ({"handler": "Save", "handler_task_queue": "my-app"}, "Save on task queue my-app"),
        ({"handler_task_queue": "my-app"}, "none on task queue my-app"),
        (
            {"handler_activity": "send_report", "handler_task_queue": "mailer"},
            "activity send_report on task queue mailer",
        ),
    ],
)
def test_a_handler_is_shown_with_where_it_runs(known: dict[str, str], shown: str | None) -> None:
    assert handler_of(batch(**known)) == shown


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"handler_task_queue": "my-app"}, None),
        ({"ingested_at": "now"}, None),
        (
            {"handler_task_queue": "my-app", "ingested_at": "now"},
            "not yet; waits for a worker on task queue my-app",
        ),
        ({"handler_task_queue": "my-app", "ingested_at": "now", "handler_dispatched_at": "later"}, "later"),
    ],
)
def test_a_batch_that_waits_for_its_handlers_worker_says_so(known: dict[str, str], shown: str | None) -> None:
    assert handled(batch(**known)) == shown
