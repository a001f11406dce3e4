"""Batches without a line of Python: files in, files out, by the `overnight` command alone."""

import asyncio
import csv
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pyarrow import parquet
from temporalio.client import Client

from overnight import BatchFilter, Overnight, Settings, Task
from overnight.cli import main
from overnight.embedded import EmbeddedTemporal
from overnight.simulator.serve import Running

ROOT = Path(__file__).parents[2]
MODEL = "gpt-5.4-mini"

Run = Callable[..., Coroutine[Any, Any, SimpleNamespace]]


class Shout(Task[str], name="command-shout"):
    word: str

    def prompt(self) -> str:
        return f"Shout: {self.word}"


def openai(custom_id: str, **more: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Say {custom_id}."}]} | more
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def anthropic(custom_id: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Say {custom_id}."}]
    return {"custom_id": custom_id, "params": {"model": "claude-haiku-4-5", "max_tokens": 20, "messages": messages}}


def text_of(*lines: Any) -> str:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)


@pytest.fixture
def environment(settings: Settings, temporal_server: EmbeddedTemporal) -> dict[str, str]:
    """What a user's shell has set."""
    assert settings.database_url is not None
    return {
        "OVERNIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "OVERNIGHT_POLL_WAITS": "0.2",
        "TEMPORAL_ADDRESS": temporal_server.address,
        "OPENAI_API_KEY": "sk-test-openai",
        "OPENAI_BASE_URL": settings.openai_base_url,
        "ANTHROPIC_API_KEY": "sk-test-anthropic",
        "ANTHROPIC_BASE_URL": settings.anthropic_base_url,
    }


@pytest.fixture
def run(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in a folder of its own. It has an event loop of its own, and so a thread of its own here."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    async def run(*arguments: str) -> SimpleNamespace:
        code = await asyncio.to_thread(main, [*arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
async def provider(simulator: Running) -> AsyncIterator[httpx.AsyncClient]:
    """The simulator's control endpoints."""
    async with httpx.AsyncClient(base_url=simulator.url) as http:
        yield http


async def spoil(provider: httpx.AsyncClient) -> None:
    """The entry `bad` is refused, `gone` has no line, and two lines come that are nobody's."""
    answers = [{"custom_id": "bad", "error": {"kind": "server", "message": "It broke."}}]
    (await provider.put("/_simulator/answers", json=answers)).raise_for_status()
    for how, custom_id in (("missing", "gone"), ("unknown_id", "good-1"), ("duplicate", "good-2")):
        effect = {"kind": "lines", "how": how, "custom_ids": [custom_id]}
        fault = {"match": {"provider": "openai", "operation": "batches.create", "times": 1}, "effect": effect}
        (await provider.post("/_simulator/faults", json=fault)).raise_for_status()


@pytest.mark.usefixtures("worker")
async def test_a_file_becomes_a_batch_its_results_three_files_and_its_failures_another_batch(
    run: Run, provider: httpx.AsyncClient, tmp_path: Path
) -> None:
    await spoil(provider)
    (tmp_path / "in.jsonl").write_text(text_of(*map(openai, ("good-1", "bad", "gone", "good-2"))))

    submitted = await run("submit", "in.jsonl", "--wait", "--json", "--metadata", "who=me")
    batch = json.loads(submitted.out)
    assert (submitted.code, batch["status"]) == (4, "ended"), submitted.err
    assert batch["outcomes"] == {"succeeded": 2, "errored": 1, "missing": 1}
    assert (batch["model"], batch["endpoint"], batch["metadata"]) == (MODEL, "/v1/chat/completions", {"who": "me"})

    for suffix in ("jsonl", "csv", "parquet"):
        assert (await run("results", batch["id"], "-o", f"out.{suffix}")).code == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    cells = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline="")))
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for found in (lines, cells, rows):
        assert [row["custom_id"] for row in found] == ["good-1", "bad", "gone", "good-2"]
        assert [row["outcome"] for row in found] == ["succeeded", "errored", "missing", "succeeded"]
        assert found[0]["output"]
    assert lines[0]["output"] == cells[0]["output"] == rows[0]["output"]
    costs = [[Decimal(row["cost"]) for row in found if row["outcome"] == "succeeded"] for found in (lines, cells, rows)]
    assert costs[0] == costs[1] == costs[2]
    assert sum(costs[0]) == Decimal(batch["cost"]["billed"])
    assert not [*tmp_path.glob(".*")], "nothing half-written is left"  # noqa: ASYNC240

    strays = [json.loads(line) for line in (await run("tail", batch["id"], "--json", "--follow")).out.splitlines()]
    assert sorted(stray["kind"] for stray in strays) == ["duplicate", "unknown"]

    (await provider.delete("/_simulator/answers")).raise_for_status()
    retried = json.loads((await run("retry", batch["id"], "--json")).out)
    assert (retried["parent_batch_id"], retried["entry_count"]) == (batch["id"], 2)
    watched = await run("watch", retried["id"], "--every", "0.1")
    assert (watched.code, json.loads(watched.out.splitlines()[-1])["outcomes"]) == (0, {"succeeded": 2})
    again = await run("retry", batch["id"])
    assert (again.code, retried["id"] in again.err) == (2, True)
    children = json.loads((await run("list", "--parent", batch["id"], "--json")).out)
    assert [child["id"] for child in children] == [retried["id"]]


@pytest.mark.usefixtures("worker")
async def test_a_file_of_anthropics_comes_from_stdin_and_its_answers_go_to_stdout(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.BytesIO(text_of(anthropic("a"), anthropic("b")).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))

    submitted = await run("submit", "-", "--wait", "--json")
    batch = json.loads(submitted.out)

    assert (submitted.code, batch["provider"], batch["outcomes"]) == (0, "anthropic", {"succeeded": 2})
    found = [json.loads(line) for line in (await run("results", batch["id"], "--responses")).out.splitlines()]
    assert [row["custom_id"] for row in found] == ["a", "b"]
    assert found[0]["output"] == found[0]["response"]["result"]["message"]["content"][0]["text"]


@pytest.mark.usefixtures("worker")
async def test_a_file_of_fields_becomes_tasks(run: Run, tmp_path: Path, overnight: Overnight) -> None:
    (tmp_path / "words.jsonl").write_text(text_of({"word": "hey", "custom_id": "own"}, {"word": "ho"}))

    options = ["--task", "command-shout", "--provider", "openai", "--model", MODEL]
    submitted = await run("submit", "words.jsonl", *options, "--wait", "--json")

    batch = json.loads(submitted.out)
    assert (submitted.code, batch["outcomes"]) == (0, {"succeeded": 2}), submitted.err
    found = [json.loads(line) for line in (await run("results", batch["id"])).out.splitlines()]
    assert [(row["custom_id"], row["task"], row["fields"]) for row in found] == [
        ("own", "command-shout", {"word": "hey"}),
        ("command-shout-2", "command-shout", {"word": "ho"}),
    ]


@pytest.mark.usefixtures("worker")
async def test_a_file_that_is_submitted_again_by_its_key_is_paid_once(
    run: Run, tmp_path: Path, overnight: Overnight
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(text_of(openai("a", max_completion_tokens=100_000)))
    refused = await run("submit", "in.jsonl", "--key", "nightly", "--max-cost", "0")
    assert (refused.code, await overnight.batches()) == (2, []), "what it could not hand over is deleted again"

    done = await run("submit", "in.jsonl", "--key", "nightly", "--wait", "--json")
    assert done.code == 0, done.err
    first = json.loads(done.out)
    file.write_text(text_of(openai("b"), openai("c")))
    again = await run("submit", "in.jsonl", "--key", "nightly", "--wait", "--json")
    assert (again.code, json.loads(again.out)) == (0, first)
    assert f"Batch {first['id']} of this key was handed over before" in again.err

    by_code = await overnight.create_batch(provider="openai", model=MODEL, key="nightly")
    await by_code.add(Shout(word="hey"))
    await by_code.submit()
    assert str(by_code.id) == first["id"]
    other = json.loads((await run("submit", "in.jsonl", "--key", "another", "--json")).out)
    assert (first["entry_count"], other["entry_count"]) == (1, 2)
    assert {str(batch.id) for batch in await overnight.batches()} == {first["id"], other["id"]}


async def test_a_bad_line_behind_many_good_ones_leaves_nothing_written(
    run: Run, tmp_path: Path, overnight: Overnight
) -> None:
    (tmp_path / "in.jsonl").write_text(text_of(*(openai(f"e-{n}") for n in range(5_000)), "{"))
    ended = await run("submit", "in.jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert "in.jsonl, line 5001: not JSON" in ended.err
    assert await overnight.batches() == []


@pytest.mark.usefixtures("worker")
async def test_a_batch_that_was_only_filled_can_be_handed_over_later(run: Run, overnight: Overnight) -> None:
    filled = await overnight.create_batch(provider="openai", model=MODEL)
    await filled.add(Shout(word="hey"))
    prefix = str(filled.id)[:30]

    estimated = json.loads((await run("estimate", prefix, "--json")).out)
    assert (estimated["source"], estimated["entries"]) == (f"batch {filled.id}", 1)

    submitted = await run("submit", "--batch", prefix, "--wait")

    assert submitted.code == 0
    assert str(filled.id) in submitted.out
    assert (await run("submit", "--batch", prefix)).code == 2


async def test_what_could_cost_more_than_is_allowed_leaves_no_batch(
    run: Run, tmp_path: Path, overnight: Overnight
) -> None:
    (tmp_path / "in.jsonl").write_text(text_of(openai("a", max_completion_tokens=100_000)))
    ended = await run("submit", "in.jsonl", "--max-cost", "0.01")
    assert (ended.code, "max_cost of $0.01" in ended.err) == (2, True)
    assert "deleted again" in ended.err
    assert await overnight.batches() == []


@pytest.mark.usefixtures("worker")
async def test_a_batch_that_fails_has_an_exit_code_of_its_own(
    run: Run, tmp_path: Path, provider: httpx.AsyncClient
) -> None:
    fault = {"match": {"operation": "batches.create"}, "effect": {"kind": "batch", "how": "expire", "share": 0.5}}
    (await provider.post("/_simulator/faults", json=fault)).raise_for_status()
    (tmp_path / "in.jsonl").write_text(text_of(openai("a"), openai("b")))

    submitted = await run("submit", "in.jsonl", "--wait", "--json")

    assert (submitted.code, json.loads(submitted.out)["status"]) == (3, "expired")
    assert (await run("watch", json.loads(submitted.out)["id"])).code == 3


async def start(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "overnight.cli", *arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def is_filling(overnight: Overnight) -> bool:
    """Whether somebody is in the middle of a COPY into this test's database."""
    from sqlalchemy import text

    query = "select 1 from pg_stat_activity where datname = current_database() and query like 'copy overnight.entries%'"
    async with overnight.store._engine.connect() as connection:
        return (await connection.execute(text(f"{query} and pid <> pg_backend_pid()"))).first() is not None


async def test_ctrl_c_while_a_file_is_read_leaves_nothing_behind(
    environment: dict[str, str], overnight: Overnight
) -> None:
    command = await start(environment, "submit", "-")
    assert command.stdin is not None
    lines = text_of(*(openai(f"e-{n}") for n in range(2_000))).encode()
    command.stdin.write(lines)  # and then it waits for more
    while not await is_filling(overnight):
        await asyncio.sleep(0.05)

    command.send_signal(signal.SIGINT)
    assert command.stderr is not None
    error = await command.stderr.read()
    await command.wait()

    assert (command.returncode, error.decode()) == (130, "Interrupted: nothing was written, sent or paid.\n")
    assert await overnight.batches() == []


async def test_ctrl_c_while_a_batch_is_waited_for_lets_it_go_on(
    environment: dict[str, str], overnight: Overnight, temporal: Client, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(text_of(openai("a")))
    command = await start(environment, "submit", str(file), "--wait")
    while not (batches := await overnight.batches(BatchFilter(unfinished=True))):
        await asyncio.sleep(0.05)
    handle = temporal.get_workflow_handle(f"batch-{batches[0].id}")
    while not await is_known(handle):
        await asyncio.sleep(0.05)

    command.send_signal(signal.SIGINT)
    _, error = await command.communicate()

    assert command.returncode == 130
    assert f"batch {batches[0].id} goes on by itself" in error.decode()
    assert (await handle.describe()).status is not None
    await handle.terminate()


async def is_known(handle: Any) -> bool:
    from temporalio.service import RPCError

    try:
        await handle.describe()
    except RPCError:
        return False
    return True
