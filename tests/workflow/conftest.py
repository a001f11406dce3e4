"""The real workflow over activities that do as they are told, on Temporal's time-skipping server."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflow.stage import Stage


@pytest.fixture
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose clock jumps ahead whenever everybody waits."""
    server = Path(sys.executable).with_name("temporal-test-server")
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server), data_converter=pydantic_data_converter
    ) as environment:
        yield environment


@pytest.fixture
async def stage(environment: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """A provider and a database that play a script."""
    stage = Stage(environment)
    async with stage.worker():
        yield stage
