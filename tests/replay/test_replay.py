"""Batches outlive deploys: today's workflow code must replay what every released version did."""

import asyncio
import re
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import NondeterminismError

import overnight.contracts
from overnight.contracts import BatchStart, BatchSummary
from tests.replay.record import CAMPAIGN_SCRIPTS, HISTORIES, SCRIPTS
from workflows import BatchWorkflow, CampaignWorkflow

RECORDED = sorted(HISTORIES.glob("*.json"))


def history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json("batch-recorded", path.read_text())


def replayer(cls: type) -> Replayer:
    restrictions = SandboxRestrictions.default.with_passthrough_modules("overnight", "pydantic", "pydantic_core")
    return Replayer(
        workflows=[cls],
        data_converter=pydantic_data_converter,
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
    )


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_todays_code_replays_the_recorded_history(path: Path) -> None:
    cls = CampaignWorkflow if "-campaign_" in path.stem else BatchWorkflow
    await replayer(cls).replay_workflow(history(path))


def test_every_path_has_been_recorded_for_every_version() -> None:
    versions = {path.stem.partition("-")[0] for path in RECORDED}
    scripts = [*SCRIPTS, *CAMPAIGN_SCRIPTS]
    assert versions
    assert {path.stem for path in RECORDED} == {f"{v}-{s.__name__}" for v in versions for s in scripts}  # type: ignore[attr-defined]


@workflow.defn(name=overnight.contracts.WORKFLOW)
class NapFirst(BatchWorkflow):
    """What a careless change does: one more command at the start."""

    @workflow.init
    def __init__(self, start: BatchStart | None = None) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: BatchStart | None = None) -> BatchSummary:
        await asyncio.sleep(1)
        return await super().run(start)


async def test_the_recordings_notice_a_changed_order_of_commands() -> None:
    with pytest.raises(NondeterminismError):
        await replayer(NapFirst).replay_workflow(history(HISTORIES / "0.1.0-ended.json"))


def test_recordings_hold_neither_paths_nor_host_names() -> None:
    for path in RECORDED:
        assert not re.search(r'"identity": "(?!recorder)|stackTrace', path.read_text()), path.name
