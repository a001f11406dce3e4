"""Responses through their Tasks: outputs, and calls of tools. Whatever is odd about one stays with its entry."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID

from overnight.batches import Outcome
from overnight.errors import MissingExtraError, ResponseError, ToolDefinitionError
from overnight.providers.base import ProviderFacts, Response
from overnight.storage.answers import Verdict
from overnight.storage.outputs import StoredEntry
from overnight.tasks import Task, refuse_unusable, tasks, tools_for
from overnight.texts import storable, told
from overnight.tools import (
    FAILED,
    INVALID_ARGUMENTS,
    UNKNOWN_TOOL,
    CheckedCall,
    checked,
    dump_calls,
    run_all,
    without_running,
)

TURN = 0.005
"""Seconds for which answers are read before others on the event loop get their turn, heartbeats and other batches: a
Task's own `read` may be slow.
"""
AT_ONCE = 8
"""Entries whose tools run at the same time: tools wait for other servers most of their time."""


class Answered(Protocol):
    """A succeeded entry with its answer."""

    @property
    def position(self) -> int: ...
    @property
    def custom_id(self) -> str: ...
    @property
    def task(self) -> str | None: ...
    @property
    def fields(self) -> str | None: ...
    @property
    def line(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A verdict that stands as soon as the tools have run."""

    verdict: Verdict
    task: Task[Any]
    calls: Sequence[CheckedCall]


async def verdicts_of(
    page: Sequence[Answered], facts: ProviderFacts, endpoint: str, batch_id: UUID
) -> Sequence[Verdict]:
    """The verdicts on a page of succeeded entries; those of raw requests need none.

    Nearly all answers are read on the spot. Only those with calls are worth tasks of the event loop's own.

    Raises:
        UsageError: a Task's class, or what it needs, is not in this process.
    """
    judged: list[tuple[Answered, Verdict | _Judged]] = []
    turn_ends = perf_counter() + TURN
    for entry in page:
        if entry.task is not None:
            judged.append((entry, _judged(entry, facts, endpoint)))
        if perf_counter() > turn_ends:
            await asyncio.sleep(0)
            turn_ends = perf_counter() + TURN
    waiting = [(entry, found) for entry, found in judged if isinstance(found, _Judged)]
    ready = [found for _, found in judged if isinstance(found, Verdict)]
    return [*ready, *await _all_with_calls(waiting, batch_id)] if waiting else ready


async def _all_with_calls(waiting: Sequence[tuple[Answered, _Judged]], batch_id: UUID) -> Sequence[Verdict]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(entry: Answered, judged: _Judged) -> Verdict:
        async with turns:
            return await _with_calls(judged, entry, batch_id)

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(in_turn(entry, judged)) for entry, judged in waiting]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [each.result() for each in running]


async def hydrated(entry: StoredEntry, facts: ProviderFacts, endpoint: str) -> StoredEntry:
    """An entry outside batches, as it would be read from the database once it is hydrated."""
    if entry.task is None or entry.outcome is not Outcome.SUCCEEDED:
        return entry
    verdict = await verdict_of(entry, facts, endpoint)
    made = replace(entry, output=verdict.output, tool_calls=verdict.tool_calls)
    if not verdict.invalid:
        return made
    return replace(made, outcome=Outcome.INVALID, error_code=verdict.error_code, reason=verdict.reason)


async def verdict_of(entry: Answered, facts: ProviderFacts, endpoint: str, batch_id: UUID | None = None) -> Verdict:
    """The output of a succeeded entry and the results of its tools, or why it has none.

    Raises:
        UnknownTaskError: its class is not registered in this process. That is nobody's answer gone wrong but a
            deployment's mistake, and mended by another one, so it is not the entry's verdict.
        MissingExtraError: a package that the Task needs is not installed here.
        ToolDefinitionError: one of the Task's tools is none.
    """
    judged = _judged(entry, facts, endpoint)
    return judged if isinstance(judged, Verdict) else await _with_calls(judged, entry, batch_id)


def _judged(entry: Answered, facts: ProviderFacts, endpoint: str) -> Verdict | _Judged:
    assert entry.task is not None
    cls = tasks.resolve(entry.task)
    calls: Sequence[CheckedCall] = ()
    try:
        response = facts.read_response((entry.line or "").encode(), endpoint=endpoint)
        calls = checked(response.tool_calls, tools_for(cls))
        task = cls.load_fields(entry.fields or "{}")
        output = _output(task, response, calls)
        _refuse_misfits(calls)
    except (MissingExtraError, ToolDefinitionError):
        raise
    except Exception as error:  # noqa: BLE001 - the user's `read`, or a field that no longer validates
        refused = without_running(calls)
        return _invalid(entry, error)._replace(tool_calls=dump_calls(refused) if refused else None)
    verdict = Verdict(position=entry.position, output=output)
    return _Judged(verdict=verdict, task=task, calls=calls) if calls else verdict


def _output(task: Task[Any], response: Response, calls: Sequence[CheckedCall]) -> str | None:
    """The output as JSON; none where the answer asks for tools of the Task and says nothing besides."""
    if not response.text.strip() and any(item.call.error_code != UNKNOWN_TOOL for item in calls):
        refuse_unusable(replace(response, text="tool calls"))
        return None
    return type(task).dump_output(task.read(response))


def _refuse_misfits(calls: Sequence[CheckedCall]) -> None:
    """Arguments that do not fit make the answer unfit; a tool that is not known has nothing to be fit for."""
    for item in calls:
        if item.call.error_code == INVALID_ARGUMENTS:
            raise ResponseError(
                "invalid_tool_call", f"The arguments for {item.call.name} do not fit: {item.call.error}"
            )


async def _with_calls(judged: _Judged, entry: Answered, batch_id: UUID | None) -> Verdict:
    """The verdict, once the tools have run. Nothing of an entry has run before all of it was found fit."""
    verdict = judged.verdict
    done = await run_all(judged.calls, batch_id=batch_id, custom_id=entry.custom_id, task=judged.task)
    failed = next((call for call in done if call.error_code == FAILED), None)
    if failed is not None:
        verdict = _invalid(entry, ResponseError("tool_failed", f"The tool {failed.name} raised {failed.error}"))
    return verdict._replace(tool_calls=dump_calls(done))


def _invalid(entry: Answered, error: Exception) -> Verdict:
    if not isinstance(error, ResponseError):
        return Verdict(position=entry.position, error_code="task_failed", reason=told(error))
    return Verdict(
        position=entry.position, error_code=storable(str(error.code))[:100], reason=storable(str(error))[:2000]
    )
