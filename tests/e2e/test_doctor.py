"""Batches that lost their workflow are found, and finish after all."""

import asyncio
import json
import os
import re
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from temporalio.client import Client

from activities import Services
from overnight import BatchStatus, Outcome, Overnight, Settings, Task
from overnight.client import BatchHandle
from overnight.doctor import Problem, State, check_deployment, checks, examine, reattach
from overnight.embedded import EmbeddedTemporal
from overnight.parts import Part
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from overnight.testing import SimulatorControl
from worker import compose

ROOT = Path(__file__).parents[2]


class Say(Task[str], name="doctor-say"):
    word: str

    def prompt(self) -> str:
        return self.word


async def accepted(overnight: Overnight) -> BatchHandle:
    """A batch that the provider has."""
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add_all(Say(word=f"word {n}") for n in range(10))
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:
        await asyncio.sleep(0.02)
    return batch


@pytest.mark.slow_provider
@pytest.mark.usefixtures("worker")
async def test_a_batch_in_good_hands_needs_no_doctor(overnight: Overnight, simulator: Running) -> None:
    batch = await accepted(overnight)

    assert await examine(overnight) == []
    SimulatorControl(simulator.url).finish()
    await batch.wait()
    assert await examine(overnight) == []


@pytest.mark.slow_provider
@pytest.mark.usefixtures("worker")
async def test_a_terminated_batch_is_found_and_finishes_at_the_provider_batch_it_had(
    overnight: Overnight, simulator: Running
) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    [finding] = await examine(overnight)
    assert (finding.batch.id, finding.problem) == (batch.id, Problem.WORKFLOW_CLOSED)
    await reattach(overnight, finding)
    SimulatorControl(simulator.url).finish()
    finished = await batch.wait()

    assert finished.status is BatchStatus.ENDED
    assert finished.outcomes == {Outcome.SUCCEEDED: 10}
    assert finished.provider_batch_id == finding.batch.provider_batch_id
    assert await examine(overnight) == []


@pytest.mark.slow_provider
@pytest.mark.usefixtures("worker")
async def test_a_terminated_batch_can_be_canceled_instead(overnight: Overnight) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    [finding] = await examine(overnight)
    await reattach(overnight, finding, cancel=True)
    finished = await batch.wait()

    assert finished.status is BatchStatus.CANCELED
    assert sum(finished.outcomes.values()) == 10


async def test_a_batch_whose_workflow_temporal_never_heard_of_is_found(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add(Say(word="hello"))
    await overnight.store.batches.seal(batch.id)

    [finding] = await examine(overnight)

    assert finding.problem is Problem.NO_WORKFLOW


async def overnight_command(
    settings: Settings, server: EmbeddedTemporal, *arguments: str, **variables: str
) -> tuple[int | None, str]:
    assert settings.database_url is not None
    environment = {
        "PATH": os.environ["PATH"],
        "OVERNIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "TEMPORAL_ADDRESS": server.address,
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "overnight.cli", *arguments, env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.slow_provider
@pytest.mark.usefixtures("worker")
async def test_the_command_finds_it_and_puts_it_right(
    overnight: Overnight, settings: Settings, simulator: Running, temporal_server: EmbeddedTemporal
) -> None:
    batch = await accepted(overnight)
    await (await batch._workflow()).terminate()

    code, text = await overnight_command(settings, temporal_server, "doctor")
    assert code == 3
    assert str(batch.id) in text
    assert "--fix" in text

    code, text = await overnight_command(settings, temporal_server, "doctor", "--fix", "--json")
    assert (code, json.loads(text)["helped"]) == (0, True)
    SimulatorControl(simulator.url).finish()
    assert (await batch.wait()).status is BatchStatus.ENDED

    code, text = await overnight_command(settings, temporal_server, "doctor")
    assert code == 0
    assert "Every batch" in text


# The smoke test of a deployment.


async def parts(settings: Settings) -> dict[str, State]:
    return {check.part: check.state async for check in check_deployment(settings)}


@pytest.fixture
def environment(settings: Settings, temporal_server: EmbeddedTemporal, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return settings


@pytest.mark.usefixtures("worker")
async def test_a_deployment_that_is_as_it_should_be_passes_every_check(environment: Settings) -> None:
    found = await parts(environment)

    assert set(found.values()) == {State.OK}
    assert {"database", "schema", "temporal", "namespace", "provider openai", "provider anthropic"} <= set(found)


async def test_task_queues_that_nobody_works_at_are_told(environment: Settings, overnight: Overnight) -> None:
    batch = await overnight.create_batch(
        provider="openai", model="gpt-5.4-mini", handler_task_queue="nobodys", handler_activity="send_report"
    )
    await batch.add(Say(word="hello"))
    await overnight.store.batches.seal(batch.id)
    checks = [check async for check in check_deployment(environment)]

    told = {check.part: check.advice for check in checks if check.state is State.FAILED}
    assert list(told) == [
        *("workers for workflows", "workers for short steps", "workers for bulk steps", "handlers on nobodys")
    ]
    assert "--only bulk" in told["workers for bulk steps"]
    assert "overnight handlers --task-queue nobodys" in told["handlers on nobodys"]


async def test_a_deployment_without_workers_for_bulk_steps_is_not_as_it_should_be(
    environment: Settings, temporal: Client
) -> None:
    services = Services(environment, Store.from_settings(environment))
    async with compose(temporal, services, only=Part.BATCHES):
        found = await parts(environment)
    await services.aclose()

    assert [part for part, state in found.items() if state is not State.OK] == ["workers for bulk steps"]


async def test_one_part_that_is_away_keeps_no_other_from_being_asked(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = SecretStr("postgresql://me:secret@127.0.0.1:1/db")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    wrong = {"database_url": nowhere, "openai_api_key": None, "anthropic_base_url": "http://127.0.0.1:1"}
    checks = [check async for check in check_deployment(environment.model_copy(update=wrong))]
    found = {check.part: check.state for check in checks}

    assert found["database"] is found["temporal"] is found["provider anthropic"] is State.FAILED
    assert found["provider openai"] is State.SKIPPED
    assert not [check for check in checks if "secret" in check.found]


async def test_a_namespace_that_is_not_there_and_a_schema_of_another_version_are_told(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, overnight: Overnight
) -> None:
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "elsewhere")
    async with overnight.store._engine.begin() as connection:
        await connection.exec_driver_sql("update overnight.schema_version set version_num = '9999'")
        await connection.exec_driver_sql("comment on schema overnight is null")
    checks = {check.part: check async for check in check_deployment(environment)}

    assert checks["schema"].state is State.FAILED
    assert "9999" in checks["schema"].found
    assert "elsewhere" in [check.found for check in checks.values() if check.state is State.FAILED][-1]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_key_that_the_provider_refuses_is_told(
    environment: Settings, simulator: Running, provider: str
) -> None:
    fault = {"match": {"provider": provider}, "effect": {"kind": "status", "status": 401}}
    request = urllib.request.Request(
        f"{simulator.anthropic_base_url}/_simulator/faults",
        data=json.dumps(fault).encode(),
        headers={"content-type": "application/json"},
    )
    await asyncio.to_thread(lambda: urllib.request.urlopen(request).read())
    found = await parts(environment)

    assert [part for part in found if part.startswith("provider") and found[part] is State.FAILED] == [
        f"provider {provider}"
    ]


async def test_a_clock_that_is_wrong_is_told(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SKEW", timedelta(hours=-1))
    found = await parts(environment)

    wrong = {part for part, state in found.items() if state is State.WARNING}
    assert wrong == {"database's clock", "provider openai", "provider anthropic"}


@pytest.mark.usefixtures("worker")
async def test_the_command_prints_a_table_of_the_parts_and_ends_with_1_when_one_has_failed(
    settings: Settings, temporal_server: EmbeddedTemporal
) -> None:
    code, text = await overnight_command(settings, temporal_server, "doctor")
    assert code == 0
    assert re.search(r"^ database +ok +Postgres", text, re.MULTILINE)

    code, text = await overnight_command(settings, temporal_server, "doctor", "--json", TEMPORAL_NAMESPACE="elsewhere")
    told = json.loads(text)
    assert code == 3
    assert "elsewhere" in next(check["found"] for check in told["checks"] if check["state"] == "failed")
