"""A handler in another language: an activity of a TypeScript worker that knows nothing of us."""

import json
import os
from pathlib import Path

import pytest

from overnight import Overnight, RawRequest
from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program
from tests.e2e.foreign.clients import node
from tests.e2e.foreign.test_foreign_start import RAW

pytestmark = pytest.mark.usefixtures("worker")


async def test_an_activity_in_typescript_is_a_handler(
    overnight: Overnight, temporal_server: EmbeddedTemporal, typescript_project: Path, name: str, tmp_path: Path
) -> None:
    batch = await overnight.create_batch(
        provider="anthropic", model="claude-haiku-4-5", handler_activity="send_report", handler_task_queue=name
    )
    await batch.add_all(RawRequest(body=entry["request"], custom_id=entry["custom_id"]) for entry in RAW["entries"])
    mailer = Program(
        name="TypeScript worker",
        argv=[str(word) for word in node(typescript_project / "worker.ts", name)],
        log_file=tmp_path / "worker.log",
        env={"PATH": os.environ["PATH"], "TEMPORAL_ADDRESS": temporal_server.address},
    )
    async with await ManagedProcess.start(mailer) as process:
        await batch.submit()
        finished = await batch.wait()
        [summary] = [json.loads(line) for line in process.log_text().splitlines() if line.startswith("{")]

    assert (summary["batch_id"], summary["status"], summary["outcomes"]) == (str(batch.id), "ended", {"succeeded": 3})
    assert (summary["cost"], summary["list_cost"]) == (str(finished.cost.billed), str(finished.cost.list_price))
    assert finished.handler_dispatched_at is not None
