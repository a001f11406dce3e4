"""Any Temporal client, in any language, starts a Batch: one that is in Postgres, or a whole one from an inline spec."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from overnight import Outcome, Overnight, Task
from overnight.contracts import workflow_id
from tests.e2e.foreign.clients import ForeignClient, RefusedError

pytestmark = pytest.mark.usefixtures("worker")


class NameTheSea(Task[str]):
    country: str
    max_tokens = 100

    def prompt(self) -> str:
        return f"Which sea lies beside {self.country}?"


OPENAI = {"provider": "openai", "model": "gpt-5.4-mini"}
ANTHROPIC = {"provider": "anthropic", "model": "claude-haiku-4-5"}

RAW = {
    **ANTHROPIC,
    "entries": [
        {
            "custom_id": f"raw-{number}",
            "request": {
                "model": "claude-haiku-4-5",
                "max_tokens": 50,
                "messages": [{"role": "user", "content": f"Say {number} in Welsh: «un, dau, tri»"}],
            },
        }
        for number in range(3)
    ],
}
TASKS = {**OPENAI, "entries": [{"task": "NameTheSea", "fields": {"country": place}} for place in ("Oman", "Perú")]}


async def filled(overnight: Overnight, entries: int = 3) -> UUID:
    """A batch that is in Postgres and that nobody has started."""
    batch = await overnight.create_batch(provider=OPENAI["provider"], model=OPENAI["model"])
    await batch.add_all(NameTheSea(country=f"country {number}") for number in range(entries))
    return batch.id


async def test_a_batch_that_is_in_postgres_runs_to_its_result(overnight: Overnight, foreign: ForeignClient) -> None:
    batch_id = await filled(overnight)
    await foreign.start(workflow_id(batch_id), {"batch_id": str(batch_id)})
    summary = await foreign.result(workflow_id(batch_id))

    assert summary["batch_id"] == str(batch_id)
    assert (summary["status"], summary["outcomes"], summary["reason"]) == ("ended", {"succeeded": 3}, None)
    assert 0 < float(summary["cost"]) < float(summary["list_cost"])
    outputs = [entry.output async for entry in overnight.batch(batch_id).entries(NameTheSea)]
    assert len(outputs) == 3
    assert all(outputs)


async def test_a_spec_with_raw_requests_runs_without_access_to_the_database(
    overnight: Overnight, foreign: ForeignClient, name: str
) -> None:
    await foreign.start(name, {"spec": RAW})
    summary = await foreign.result(name)

    assert (summary["status"], summary["outcomes"]) == ("ended", {"succeeded": 3})
    entries = [entry async for entry in overnight.batch(UUID(summary["batch_id"])).entries()]
    assert [entry.custom_id for entry in entries] == ["raw-0", "raw-1", "raw-2"]
    assert {entry.outcome for entry in entries} == {Outcome.SUCCEEDED}


async def test_a_spec_with_tasks_is_rendered_and_read_by_the_tasks_of_the_worker(
    overnight: Overnight, foreign: ForeignClient, name: str
) -> None:
    await foreign.start(name, {"spec": TASKS})
    summary = await foreign.result(name)

    assert (summary["status"], summary["outcomes"]) == ("ended", {"succeeded": 2})
    entries = [entry async for entry in overnight.batch(UUID(summary["batch_id"])).entries(NameTheSea)]
    assert [entry.task.country for entry in entries] == ["Oman", "Perú"]
    assert all(entry.output for entry in entries)


async def test_a_workflow_id_that_is_in_use_or_was_used_starts_nothing_more(
    overnight: Overnight, foreign: ForeignClient, name: str
) -> None:
    start = {"batch_id": str(await filled(overnight))}
    await foreign.start(name, start)

    with pytest.raises(RefusedError, match=r"(?i)already (started|running)"):
        await foreign.start(name, start)
    await foreign.result(name)
    with pytest.raises(RefusedError, match=r"(?i)already (started|running|exists|finished)"):
        await foreign.start(name, start)


async def test_a_second_workflow_for_the_same_batch_fails_and_leaves_the_first_alone(
    overnight: Overnight, foreign: ForeignClient, name: str
) -> None:
    start = {"batch_id": str(await filled(overnight))}
    await foreign.start(name, start)
    await foreign.result(name)
    await foreign.start(f"{name}-again", start)

    with pytest.raises(RefusedError, match="BatchClosedError") as refused:
        await foreign.result(f"{name}-again")
    assert start["batch_id"] in str(refused.value)


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown provider": ({"spec": {**RAW, "provider": "closedai"}}, "UnknownProviderError", "closedai"),
    "an unknown model": ({"spec": {**RAW, "model": "claude-nonsense-9"}}, "UnknownModelError", "claude-nonsense-9"),
    "an unknown handler": ({"spec": {**RAW, "handler": "Nobody"}}, "UnknownHandlerError", "Nobody"),
    "an unknown task": ({"spec": {**OPENAI, "entries": [{"task": "Nothing"}]}}, "UnknownTaskError", "Nothing"),
    "fields that do not fit": (
        {"spec": {**OPENAI, "entries": [{"custom_id": "bad-one", "task": "NameTheSea", "fields": {"land": "Oman"}}]}},
        "EntryError",
        "bad-one",
    ),
    "a duplicate custom id": (
        {"spec": {**RAW, "entries": [RAW["entries"][0], RAW["entries"][0]]}},
        "DuplicateCustomIdError",
        "raw-0",
    ),
    "a malformed custom id": (
        {"spec": {**RAW, "entries": [{**RAW["entries"][0], "custom_id": "not an id"}]}},  # type: ignore[dict-item]
        "CustomIdError",
        "not an id",
    ),
    "an activity on no task queue": (
        {"spec": {**RAW, "handler_activity": "send_report"}},
        "StartError",
        "handler_task_queue",
    ),
    "a batch that is not there": ({"batch_id": str(UUID(int=7))}, "UnknownBatchError", str(UUID(int=7))),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("foreign", ["temporal CLI"], indirect=True)
async def test_a_wrong_start_is_a_typed_failure_that_names_the_thing_and_leaves_nothing(
    overnight: Overnight, foreign: ForeignClient, name: str, wrong: str
) -> None:
    start, failure, thing = WRONG[wrong]
    await foreign.start(name, start)

    with pytest.raises(RefusedError, match=failure) as refused:
        await foreign.result(name)
    assert thing in str(refused.value)
    assert await overnight.batches() == []


MISSHAPEN: dict[str, tuple[Any, str]] = {
    "null": (None, "BatchStart"),
    "neither a batch nor a spec": ({}, "`batch_id` or `spec`"),
    "a batch and a spec": ({"batch_id": str(UUID(int=7)), "spec": RAW}, "`batch_id` or `spec`"),
    "a spec without entries": ({"spec": {**RAW, "entries": []}}, "spec.entries"),
    "a spec without a model": ({"spec": {"provider": "openai", "entries": TASKS["entries"]}}, "spec.model"),
    "an entry that is nothing": ({"spec": {**RAW, "entries": [{"custom_id": "empty"}]}}, "spec.entries.0"),
    "a batch id that is none": ({"batch_id": "my batch"}, "batch_id"),
}


@pytest.mark.parametrize("misshapen", MISSHAPEN)
@pytest.mark.parametrize("foreign", ["temporal CLI"], indirect=True)
async def test_a_start_of_the_wrong_shape_fails_instead_of_hanging_and_names_the_field(
    foreign: ForeignClient, name: str, misshapen: str
) -> None:
    start, thing = MISSHAPEN[misshapen]
    await foreign.start(name, start)

    with pytest.raises(RefusedError) as refused:
        async with asyncio.timeout(60):
            await foreign.result(name)
    assert thing in str(refused.value)
