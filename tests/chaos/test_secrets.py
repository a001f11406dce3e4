"""After a run in which much went wrong: no key anywhere, and no prompt or answer outside Postgres."""

import asyncio
import base64
import re
import sys
from pathlib import Path

import pytest

from overnight.client import BatchHandle
from overnight.contracts import workflow_id
from tests.chaos.harness import ANTHROPIC_KEY, MODELS, OPENAI_KEY, System, running_system
from tests.chaos.harness_tasks import Judge, Quote, ReadsBadly

PROMPT, ANSWER = "quokka-in-a-prompt", "narwhal-in-an-answer"
KEYS = (OPENAI_KEY, ANTHROPIC_KEY)
# Where the contents of entries belong, and where a step's failure is kept in full.
CONTENT = {"entries", "results", "outputs", "stray_results", "batches.last_error"}

pytestmark = pytest.mark.timeout(400)


async def test_no_key_is_anywhere_and_no_prompt_or_answer_is_outside_postgres(tmp_path: Path) -> None:
    async with running_system(tmp_path) as system:
        await script_trouble(system)
        for provider in MODELS:
            await troubled_batch(system, provider)
        await system.finish()

        outside = await outside_postgres(system, tmp_path)
        inside = columns(system)

    content = {name: text for name, text in inside.items() if CONTENT & {name, name.partition(".")[0]}}
    elsewhere = {name: text for name, text in inside.items() if name not in content}
    assert_the_search_finds_what_is_there(system, outside, content)
    assert where_is(KEYS, outside | inside) == []
    assert where_is([PROMPT, ANSWER], outside | elsewhere) == []


async def script_trouble(system: System) -> None:
    """Refusals that quote the key, cut and lost answers, answers that do not fit and that the Task chokes on."""
    message = f"Incorrect API key: {OPENAI_KEY} {ANTHROPIC_KEY}, sent with: {PROMPT}."
    refusal = {"error": {"message": message, "type": "auth"}}
    for operation in ("batches.create", "batches.retrieve", "batches.results", "files.content", "files.upload"):
        effect = {"kind": "status", "status": 401, "body": refusal}
        await system.fault(effect, operation=operation, times=2)
        await system.fault({"kind": "status", "status": 401, "body": f"{KEYS}"}, operation=operation, times=2)
        await system.fault({"kind": "cut", "after_bytes": 900}, operation=operation, times=2)
    await system.fault({"kind": "lines", "how": "malformed", "count": 1})
    await system.fault({"kind": "lines", "how": "wrong_shape", "count": 2})
    answers = [
        {"custom_id": "misfit-*", "text": f"no JSON but {ANSWER}"},
        {"custom_id": "choke-*", "text": ANSWER},
        {"custom_id": "refuse-*", "refusal": ANSWER},
        {"custom_id": "break-*", "error": {"message": f"could not process {PROMPT}"}},
        {"custom_id": "*", "value": {"label": ANSWER, "confidence": 0.5}},
    ]
    await system.control("PUT", "/answers", answers)


async def troubled_batch(system: System, provider: str) -> BatchHandle:
    batch = await system.overnight.create_batch(provider=provider, model=MODELS[provider], handler=Quote)
    for number in range(8):
        for kind in ("misfit", "refuse", "break", "fit"):
            await batch.add(Judge(review=PROMPT), custom_id=f"{kind}-{number}")
        await batch.add(ReadsBadly(review=PROMPT), custom_id=f"choke-{number}")
    await batch.submit()
    system.batches.append(batch)
    return batch


async def outside_postgres(system: System, folder: Path) -> dict[str, str]:
    """Everything that leaves Postgres: histories, what the command line shows of them, Temporal's file, the logs."""
    texts = {"worker log": system.workers[0].log, "temporal log": (folder / "temporal" / "temporal.log").read_text()}
    for file in (folder / "temporal").glob("temporal.db*"):
        texts[file.name] = file.read_bytes().decode("latin-1")
    texts["list"] = await temporal_cli(system, "list")
    for batch in system.batches:
        name = workflow_id(batch.id)
        history = (await system.overnight.temporal.get_workflow_handle(name).fetch_history()).to_json()
        texts[f"history of {name}"] = history + decoded(history)
        texts[f"description of {name}"] = await temporal_cli(system, "describe", "--workflow-id", name)
        texts[f"show of {name}"] = await temporal_cli(system, "show", "--detailed", "--workflow-id", name)
    return texts


def decoded(history: str) -> str:
    """The payloads of a history, which its JSON holds in base64."""
    found = re.findall(r'"data": ?"([^"]+)"', history)
    return "\n".join(base64.b64decode(data).decode(errors="replace") for data in found)


async def temporal_cli(system: System, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("temporal")), "workflow", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, "--address", system.servers.temporal.address, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def columns(system: System) -> dict[str, str]:
    """Every column of every table of ours, as one text each."""
    query = "select table_name, column_name from information_schema.columns where table_schema = 'overnight'"
    found = {}
    for table, column in system.rows(query):
        values = system.rows(f'select "{column}" from overnight.{table} where "{column}" is not null')
        found[f"{table}.{column}"] = "\n".join(
            value.decode(errors="replace") if isinstance(value, bytes) else str(value) for (value,) in values
        )
    return found


def where_is(words: list[str] | tuple[str, ...], texts: dict[str, str]) -> list[str]:
    """The places that hold any of the words, with what is around the first one."""
    return [
        f"{name}: ...{text[max(at - 150, 0) : at + 60]}..."
        for name, text in texts.items()
        for word in words
        if (at := text.find(word)) >= 0
    ]


def assert_the_search_finds_what_is_there(system: System, outside: dict[str, str], content: dict[str, str]) -> None:
    for batch in system.batches:
        name = f"{batch.id}"
        finds = where_is([name], outside)
        assert {place.partition(":")[0] for place in finds} >= {"worker log", "list", f"history of batch-{name}"}
        assert "dispatch_handler" in decoded(outside[f"history of batch-{name}"]) + outside[f"show of batch-{name}"]
    assert any(place.startswith("temporal.db") for place in where_is(["dispatch_handler"], outside))
    # The payloads of a history can only be searched once they are decoded.
    encoded = base64.b64encode(f"a payload with {PROMPT}".encode()).decode()
    assert where_is([PROMPT], {"payload": decoded(f'"data": "{encoded}"')}) != []
    assert where_is([PROMPT], {"payload": encoded}) == []
    places = {place.partition(":")[0] for place in where_is([PROMPT], content)}
    assert places >= {"entries.fields", "entries.request", "results.line", "results.reason", "batches.last_error"}
    places = {place.partition(":")[0] for place in where_is([ANSWER], content)}
    assert places >= {"results.line", "results.reason", "outputs.output", "batches.last_error"}
