"""Metrics: what a worker really exports, scraped from a worker process."""

import asyncio
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from overnight import Overnight, RawRequest, Settings
from overnight.embedded import EmbeddedTemporal, ManagedProcess, Program
from overnight.embedded.ports import free_port
from overnight.errors import ConfigurationError
from overnight.metrics import runtime_of
from overnight.simulator import Fault, Match, SimulatorConfig, Stages, StatusEffect
from overnight.simulator.serve import Running
from tests.architecture.test_observability import used

WORKER = Path(__file__).parents[2] / "worker.py"


@pytest.fixture
def simulator_config() -> SimulatorConfig:
    ill = Fault(match=Match(operation="batches.retrieve", times=1), effect=StatusEffect(kind="status", status=503))
    return SimulatorConfig(stages=Stages(validating=0.1, in_progress=0.4, finalizing=0.1), faults=(ill,))


@pytest.fixture
async def scraped(
    settings: Settings, simulator: Running, temporal_server: EmbeddedTemporal, database_url: str, tmp_path: Path
) -> AsyncIterator[int]:
    """The port of a worker process that serves metrics."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "OVERNIGHT_DATABASE_URL": database_url,
        "OVERNIGHT_TASK_QUEUE": settings.task_queue,
        "OVERNIGHT_POLL_WAITS": "0.2",
        "OVERNIGHT_METRICS_ADDRESS": f"localhost:{port}",
        "TEMPORAL_ADDRESS": temporal_server.address,
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "NO_PROXY": "127.0.0.1",
    }
    log = tmp_path / "worker.log"
    program = Program(name="worker", argv=[sys.executable, str(WORKER)], log_file=log, env=environment)
    async with await ManagedProcess.start(program) as process:
        await process.wait_until_ready(process.log_matches("worker is ready"), timeout=timedelta(seconds=60))
        yield port


async def scrape(port: int) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample: name to labels and value."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return answer.read().decode()

    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(read)):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def total(samples: dict[str, list[tuple[dict[str, str], float]]], metric: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    return sum(value for has, value in samples.get(metric, []) if labels.items() <= has.items())


async def test_a_worker_exports_everything_that_rules_and_dashboard_use(overnight: Overnight, scraped: int) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add_all(RawRequest(body={"model": "gpt-5.4-mini", "input": f"a secret {n}"}) for n in range(5))
    await batch.submit()
    finished = await batch.wait()

    samples = await scrape(scraped)

    assert used() <= samples.keys()
    assert total(samples, "overnight_entries_total", outcome="succeeded", model="gpt-5.4-mini") == 5
    assert total(samples, "overnight_result_lines_total", kind="accepted") == 5
    assert total(samples, "overnight_polls_total", result="TransientProviderError") == 1
    assert total(samples, "overnight_polls_total", result="ended") == 1
    assert total(samples, "overnight_step_failures_total", activity_type="fetch_status") == 1
    assert total(samples, "overnight_batches_read_total", provider="openai", status="ended") == 1
    assert total(samples, "overnight_tokens_total", kind="input") == finished.usage.input_tokens
    assert finished.cost.billed is not None
    assert total(samples, "overnight_cost_microdollars_total") == int(finished.cost.billed * 1_000_000)
    assert str(batch.id) not in str(samples)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OVERNIGHT_METRICS_ADDRESS"):
        runtime_of(Settings(metrics_address="192.0.2.1:9464"))
