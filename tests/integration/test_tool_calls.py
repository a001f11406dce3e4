"""Calls of tools, in the database: kept with their results, and made again with the same key after a crash."""

import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import BatchStatus, Outcome
from overnight.errors import NoOutputError
from overnight.hydrating import verdicts_of
from overnight.providers import provider_facts
from overnight.reading import entries
from overnight.storage.store import Store
from overnight.tasks import Task
from overnight.tools import ToolContext
from tests.integration.rows import ROOM, all_rows, block, each, new_batch, new_entry, report, result

FACTS = provider_facts("openai")
RESPONSES = FACTS.endpoints[0]
keys: Counter[str] = Counter()


async def note(what: str, context: ToolContext) -> str:
    keys[context.idempotency_key] += 1
    if what == "bad":
        raise LookupError(what)
    return f"{what} noted"


class Jot(Task[str], name="integration: jot"):
    tools = (note,)
    topic: str

    def prompt(self) -> str:
        return self.topic


def line(custom_id: str, what: str, said: str = "") -> str:
    call = {"type": "function_call", "call_id": "c", "name": "note", "arguments": json.dumps({"what": what})}
    message = {"type": "message", "content": [{"type": "output_text", "text": said}]}
    body = {"status": "completed", "output": [call, *([message] if said else [])]}
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}})


async def answered(store: Store) -> UUID:
    batch = await store.batches.create(new_batch())
    tasks: list[Task[Any]] = [Jot(topic="a"), Jot(topic="b").with_settings(max_tokens=5), Jot(topic="c")]
    new = [new_entry(f"e-{n}", task="integration: jot", fields=task.dump_fields()) for n, task in enumerate(tasks)]
    await store.entries.add(batch.id, each(new), ROOM)
    await store.submissions.accept(batch.id, report(BatchStatus.ENDED))
    lines = [line("e-0", "one"), line("e-1", "two", "Said."), line("e-2", "bad", "Said.")]
    await store.results.write(batch.id, block([result(n, line=raw) for n, raw in enumerate(lines, 1)], to=10))
    await store.results.finish(batch.id, price_version=None)
    return batch.id


async def test_handlers_see_results_and_a_crash_before_the_commit_makes_the_same_calls_again(store: Store) -> None:
    keys.clear()
    batch_id = await answered(store)
    for crashes in (True, False):
        async for page in store.outputs.pages(batch_id, outcomes=[Outcome.SUCCEEDED]):
            verdicts = await verdicts_of(page, FACTS, RESPONSES, batch_id)
            if not crashes:
                await store.outputs.write(batch_id, verdicts, before=0, after=page[-1].position)
    await store.outputs.finish(batch_id)

    calls_alone, both, failed = [entry async for entry in entries(store, batch_id, Jot, None)]
    assert [entry.tool_calls[0].result for entry in (calls_alone, both)] == ["one noted", "two noted"]
    assert both.output == "Said."
    assert both.task == Jot(topic="b").with_settings(max_tokens=5)
    with pytest.raises(NoOutputError, match="tool calls alone"):
        _ = calls_alone.output
    assert (failed.outcome, failed.error_code) == (Outcome.INVALID, "tool_failed")
    assert (failed.tool_calls[0].error_code, failed.output_or_none) == ("failed", None)
    assert keys == {f"{batch_id}:e-{n}:1:c": 2 for n in range(3)}


async def test_a_row_without_output_and_calls_is_refused_by_the_database(store: Store, engine: AsyncEngine) -> None:
    batch_id = await answered(store)
    insert = text("insert into overnight.outputs (batch_id, position) values (:id, 1)")
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError, match="outputs_not_empty_check"):
            await connection.execute(insert, {"id": batch_id})
    assert await all_rows(engine, "select count(*) from overnight.outputs") == [(0,)]
