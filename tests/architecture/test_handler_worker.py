"""The wheel beside LlamaIndex's `workflows`: handlers that use it run, for batches that another worker runs."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from overnight import Outcome, Overnight, RawRequest
from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program
from tests.architecture.conftest import Installation

# Unknown to this process, which runs the batch: it cannot even be imported here.
MY_APP = """
import sys
import workflows  # LlamaIndex's
from overnight import BatchHandler
from sqlalchemy import text

assert workflows.Workflow.__module__.startswith("workflows.")


class Remember(BatchHandler, name="wheel-remember"):
    async def on_success(self) -> None:
        application = sorted({"activities", "worker"} & sys.modules.keys())
        async with self.transaction() as connection:
            answers = [entry.response async for entry in self.entries()]
            row = {"file": workflows.__file__, "answers": len(answers), "application": ", ".join(application)}
            await connection.execute(text("create table remembered (file text, answers int, application text)"))
            await connection.execute(text("insert into remembered values (:file, :answers, :application)"), row)
"""


@pytest.fixture
async def my_app(
    installation: Installation, temporal_server: EmbeddedTemporal, database_url: str, tmp_path: Path
) -> AsyncIterator[str]:
    """A handler worker of the installation's; answers its task queue."""
    task_queue = f"my-app-{secrets.token_hex(4)}"
    (tmp_path / "my_app.py").write_text(MY_APP)
    program = Program(
        name="handlers",
        argv=[
            str(installation.python.with_name("overnight")),
            *("handlers", "--import", "my_app", "--task-queue", task_queue),
        ],
        log_file=tmp_path / "handlers.log",
        cwd=tmp_path,
        env={"OVERNIGHT_DATABASE_URL": database_url, "TEMPORAL_ADDRESS": temporal_server.address},
    )
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches("handlers are ready"), timeout=timedelta(seconds=90))
        yield task_queue


@pytest.mark.usefixtures("worker")
async def test_a_handler_beside_another_distributions_workflows_handles_the_main_workers_batch(
    overnight: Overnight, my_app: str, installation: Installation
) -> None:
    batch = await overnight.create_batch(
        provider="openai", model="gpt-5.4-mini", handler="wheel-remember", handler_task_queue=my_app
    )
    request = {"model": "gpt-5.4-mini", "input": "Say hello."}
    await batch.add_all(RawRequest(body=request) for _ in range(3))
    await batch.submit()
    finished = await batch.wait()

    assert finished.outcomes == {Outcome.SUCCEEDED: 3}
    async with overnight.store._engine.connect() as connection:
        (row,) = await connection.execute(text("select * from remembered"))
    assert Path(row.file).is_relative_to(installation.folder)
    assert (row.answers, row.application) == (3, "")
