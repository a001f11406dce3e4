"""Handlers with one hook only: each hears of its own kind of end and of no other."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from overnight import BatchHandler, BatchStatus
from overnight.batches import TERMINAL, Batch
from overnight.handlers import Dispatched

ENDS = sorted(TERMINAL)
UNSUCCESSFUL = sorted(TERMINAL - {BatchStatus.ENDED})


class Hears(BatchHandler, name="acceptance-hears"):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.heard: list[str] = []


class HearsCompletion(Hears, name="acceptance-hears-completion"):
    async def on_completion(self) -> None:
        self.heard.append("completion")


class HearsSuccess(Hears, name="acceptance-hears-success"):
    async def on_success(self) -> None:
        self.heard.append("success")


class HearsFailure(Hears, name="acceptance-hears-failure"):
    async def on_failure(self) -> None:
        self.heard.append("failure")


async def heard(handler: type[Hears], status: BatchStatus) -> list[str]:
    instance = handler(cast("Batch", SimpleNamespace(status=status)), cast("Dispatched", None))
    await instance.handle()
    return instance.heard


@pytest.mark.parametrize("status", ENDS)
async def test_a_handler_that_only_hears_completions_hears_every_end(status: BatchStatus) -> None:
    assert await heard(HearsCompletion, status) == ["completion"]


@pytest.mark.parametrize("status", ENDS)
async def test_a_handler_that_only_hears_successes_is_silent_about_every_other_end(status: BatchStatus) -> None:
    assert await heard(HearsSuccess, status) == (["success"] if status is BatchStatus.ENDED else [])


@pytest.mark.parametrize("status", ENDS)
async def test_a_handler_that_only_hears_failures_is_silent_about_success(status: BatchStatus) -> None:
    assert await heard(HearsFailure, status) == (["failure"] if status in UNSUCCESSFUL else [])
