"""Places to die at. They live here and not in the product: the worker under test wraps the product's own methods.

A place has a name such as `ingest_results/write.after`: the activity, what it calls, and whether before or after the
call; `during` is a moment after the call has begun. A file in the folder of CHAOS_POINTS arms a place for one batch:
whoever gets there dies, or is held there until the test lets it go on. Each is used up by the first who gets there.
"""

import asyncio
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from overnight.providers import anthropic, openai
from overnight.providers._http import Api
from overnight.storage.batches import BatchStore
from overnight.storage.campaigns import CampaignStore
from overnight.storage.dispatches import Dispatch
from overnight.storage.entries import EntryStore
from overnight.storage.outputs import OutputStore
from overnight.storage.results import ResultStore
from overnight.storage.rounds import RoundStore
from overnight.storage.submissions import SubmissionStore

FOLDER = "CHAOS_POINTS"
_MOMENT = 0.3
_HOLD = "hold"
_HELD = ".held"
_LOOK = 0.05

_METHODS: dict[type, tuple[str, ...]] = {
    Api: ("read", "upload", "create"),
    openai.OpenAI: ("newest", "find", "delete_upload"),
    anthropic.Anthropic: ("newest", "find"),
    EntryStore: ("add",),
    BatchStore: ("claim", "create_by_key", "seal", "record_report", "give_up", "close", "request_cancel"),
    SubmissionStore: (
        "record_upload",
        "record_intent",
        "check_undoubted",
        "accept",
        "withdraw_intent",
        "send_back",
        "resolve",
    ),
    ResultStore: ("write", "_advance", "_copy_results", "give_up", "finish"),
    OutputStore: ("write", "_copy_outputs", "finish"),
    Dispatch: ("_stamp", "commit"),
    CampaignStore: ("claim", "look", "stop", "settle"),
    RoundStore: ("plan",),
}


def arm(folder: Path, batch_id: UUID | str, point: str, *, at: int = 1) -> None:
    """Have the worker that gets there die, at the given time of getting there. A campaign is named by its workflow."""
    _file(folder, batch_id, point).write_text(str(at))


def hold(folder: Path, batch_id: UUID, point: str) -> Path:
    """Have the worker that gets there stay there, alive, as long as the returned file exists, once it does."""
    file = _file(folder, batch_id, point)
    file.write_text(_HOLD)
    return _held(file)


def _held(file: Path) -> Path:
    return file.with_name(file.name + _HELD)


def armed(folder: Path, batch_id: UUID | None = None) -> list[str]:
    """Places where nobody has come yet, of one batch or of all."""
    files = folder.glob(f"*@{batch_id or '*'}")
    return sorted(file.name for file in files if not file.name.endswith(_HELD))


def _file(folder: Path, batch_id: UUID | str, point: str) -> Path:
    return folder / f"{point.replace('/', ':')}@{batch_id}"


def _armed_file(point: str) -> Path | None:
    """The file that arms a place for the batch whose activity runs."""
    if FOLDER not in os.environ or not activity.in_activity():
        return None
    info = activity.info()
    batch_id = (info.workflow_id or "").removeprefix("batch-")
    file = _file(Path(os.environ[FOLDER]), batch_id, f"{info.activity_type}/{point}")
    return file if file.exists() else None


def reach(point: str) -> None:
    """Die here, if a file says so."""
    file = _armed_file(point)
    if file is None or (left := file.read_text()) == _HOLD:
        return
    if int(left) > 1:
        file.write_text(str(int(left) - 1))
        return
    file.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


async def pass_by(point: str) -> None:
    """Die or stay here, if a file says so."""
    reach(point)
    file = _armed_file(point)
    if file is not None and file.read_text() == _HOLD:
        file.write_text(str(os.getpid()))
        held = file.rename(_held(file))
        while held.exists():
            await asyncio.sleep(_LOOK)


def install() -> None:
    """Make every place one to die at."""
    for owner, names in _METHODS.items():
        for name in names:
            setattr(owner, name, _dying(name, getattr(owner, name)))
    EntryStore.pages = _dying_between_pages(EntryStore.pages)  # type: ignore[method-assign]


def _dying(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        await pass_by(f"{name}.before")
        death = asyncio.get_running_loop().call_later(_MOMENT, reach, f"{name}.during")
        try:
            return await method(*args, **kwargs)
        finally:
            death.cancel()
            await pass_by(f"{name}.after")

    return call


def _dying_between_pages(pages: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def paging(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for page in pages(*args, **kwargs):
            yield page
            reach("page.after")

    return paging


class Deaths(Interceptor):
    """Before an activity begins, and after its last line, before Temporal hears of it."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - theirs
        return _Death(next)


class _Death(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - theirs
        reach("begin")
        result = await self.next.execute_activity(input)
        reach("end")
        return result
