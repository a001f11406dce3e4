"""The worker under test: the real `worker.py`, with places to die at and without the long patience.

What it waits for is shortened, never what it does: a dead worker is missed after seconds instead of a minute, and
pages and blocks are small, so that a small batch has many of them.

This process only starts workers, one after the other, as an orchestrator would. It has imported everything once, so
that each of its children begins within moments.
"""

import functools
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn, cast

import httpx
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

import worker
from overnight.handling import heartbeats, process
from overnight.providers import _jsonl
from overnight.storage import answers, entries, outputs
from tests.chaos import harness_points, harness_tasks, harness_versions  # noqa: F401 - imported once, for all children
from workflows import options

BEGAN, ENDED = "a life began", "a life ended"

# A busy machine must still get its heartbeats through.
_MISSED_AFTER = timedelta(seconds=2)
_HEARTBEAT_EVERY = timedelta(seconds=0.3)
_SHORT_STEP = timedelta(seconds=4)
_BACKOFF = timedelta(seconds=0.3)
_LONGEST_BACKOFF = timedelta(seconds=2)
_DRAIN = timedelta(seconds=2)
_GRACE = timedelta(seconds=4)
_GRACE_WAIT = timedelta(seconds=0.05)
_BEFORE_NEXT_TRY = 0.3
_STICKY = timedelta(seconds=1)


def shorten_patience() -> None:
    process.DRAIN = _DRAIN
    options.GRACE, options.GRACE_WAIT = _GRACE, _GRACE_WAIT
    heartbeats._INTERVAL = _HEARTBEAT_EVERY.total_seconds()
    for name in ("OPEN", "SUBMIT", "POLL", "CANCEL", "EXPIRE", "FINALIZE", "DISPATCH", "CLEAN_UP", "LOOK"):
        step = cast("dict[str, Any]", getattr(options, name))
        if "heartbeat_timeout" in step:
            step["heartbeat_timeout"] = _MISSED_AFTER
        else:
            step["start_to_close_timeout"] = _SHORT_STEP
        step["retry_policy"] = _sooner(step)


def _sooner(step: Mapping[str, Any]) -> RetryPolicy:
    policy: RetryPolicy = step["retry_policy"]
    return RetryPolicy(
        initial_interval=min(policy.initial_interval, _BACKOFF),
        maximum_interval=_LONGEST_BACKOFF,
        maximum_attempts=policy.maximum_attempts,
    )


def shrink_portions() -> None:
    entries._PAGE_ENTRIES = 10
    outputs._PAGE_ENTRIES = answers.PAGE_ENTRIES = 10
    _jsonl.BLOCK_BYTES = 1  # each piece that comes over the wire is a block of its own
    httpx.Response.aiter_bytes = functools.partialmethod(  # type: ignore[assignment]
        httpx.Response.aiter_bytes, chunk_size=4 * 1024
    )


def prepare() -> None:
    shorten_patience()
    if harness_versions.VERSION in os.environ:
        worker.BatchWorkflow = getattr(harness_versions, os.environ[harness_versions.VERSION])  # type: ignore[misc]
    shrink_portions()
    harness_points.install()
    worker.Worker = functools.partial(  # type: ignore[assignment,attr-defined]
        Worker,
        interceptors=[harness_points.Deaths()],
        sticky_queue_schedule_to_start_timeout=_STICKY,
        max_heartbeat_throttle_interval=_HEARTBEAT_EVERY,
    )


class Keeper:
    """Starts workers until it is told to stop; SIGTERM is passed on to the worker that lives."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments, self._child, self._stopping = arguments, 0, False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, _: object) -> None:
        self._stopping = True
        if self._child:
            os.kill(self._child, number)

    def keep(self) -> None:
        while not self._stopping:
            self._child = os.fork() or self._live()
            say(f"{BEGAN}: {self._child}")
            code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
            self._child = 0
            say(f"{ENDED}: {code}")
            time.sleep(_BEFORE_NEXT_TRY if code > 0 else 0)

    def _live(self) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        random.seed()
        os._exit(worker.main(self._arguments))


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    prepare()
    Keeper(sys.argv[1:]).keep()
