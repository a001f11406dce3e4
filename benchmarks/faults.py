"""What a batch's owner is told when the provider misbehaves, beside what is true: `python benchmarks/faults.py`.

Each row is one fault, injected into the provider simulator, and one batch of 200 entries that goes through the whole
system: Postgres and Temporal are started here, the worker runs in this process, the provider answers over HTTP. A row
is good when the entries are reported exactly as they are, and one provider batch was made for them.
"""

import argparse
import asyncio
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from pydantic import BaseModel, SecretStr
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import Services
from overnight import Outcome, Overnight, Task
from overnight.embedded import Stack, running_stack
from overnight.settings import Settings
from overnight.simulator import Running, SimulatorConfig, Stages, running
from overnight.storage.store import Store
from worker import compose

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
DOWNLOADS = {"openai": "files.content", "anthropic": "batches.results"}
ROOT = Path(__file__).resolve().parents[1]
SIZE, FAILING, MISSING, SPECIAL = 200, 19, 2, 8
STAGES = Stages(validating=0.1, in_progress=0.5, finalizing=0.1, canceling=0.1)
AT_ONCE = 4


class Word(BaseModel):
    word: str


class SayWord(Task[Word]):
    number: int
    max_tokens = 200

    def prompt(self) -> str:
        return f"Say a word for number {self.number}."


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the provider did: entries answered, entries that failed or were not processed, entries without a line."""

    ok: int = SIZE
    err: int = 0
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    name: str
    faults: Sequence[tuple[str, dict[str, Any], dict[str, Any]]] = ()
    """Operation, match, effect."""
    truth: Truth = Truth()
    kills_worker: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    scenario: str
    provider: str
    reported: Truth
    truth: Truth
    batches: int
    seconds: float

    @property
    def good(self) -> bool:
        return self.reported == self.truth and self.batches == 1


def once(operation: str, kind: str, **effect: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return operation, {"times": 1}, {"kind": kind, **effect}


def lines(how: str, count: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return once("batches.create", "lines", how=how, count=count)


HALF = Truth(ok=SIZE // 2, err=SIZE // 2)
SCENARIOS = (
    Scenario(name="nothing wrong"),
    Scenario(
        name="mixed: errors, and rows that never come",
        faults=[lines("missing", MISSING)],
        truth=Truth(ok=SIZE - FAILING - MISSING, err=FAILING, missing=MISSING),
    ),
    Scenario(name="raw U+2028 in answers", faults=[lines("line_separator", SPECIAL)]),
    Scenario(
        name="expired, half of it done",
        faults=[once("batches.create", "batch", how="expire", share=0.5)],
        truth=HALF,
    ),
    Scenario(name='"created" answer lost', faults=[once("batches.create", "answer_lost")]),
    Scenario(name='"created" answer is a 503', faults=[once("batches.create", "status_after_accept", status=503)]),
    Scenario(
        name="worker killed (-9) after the provider accepted",
        faults=[once("batches.create", "answer_lost")],
        kills_worker=True,
    ),
    Scenario(name="download cut half way, once", faults=[once("results", "cut", after_bytes=30_000)]),
    Scenario(
        name="7 times HTTP 500 on status",
        faults=[("batches.retrieve", {"times": 7}, {"kind": "status", "status": 500})],
    ),
    Scenario(
        name="canceled by somebody, half of it done",
        faults=[once("batches.create", "batch", how="cancel_by_itself", share=0.5)],
        truth=HALF,
    ),
    Scenario(name="every line twice", faults=[lines("duplicate", SIZE)]),
    Scenario(
        name="lone surrogates in answers",
        faults=[lines("lone_surrogate", SPECIAL)],
        truth=Truth(ok=SIZE - SPECIAL, err=SPECIAL),
    ),
)


class Bench:
    """One provider of one scenario: a simulator and a task queue of its own, on shared servers."""

    def __init__(self, scenario: Scenario, provider: str, settings: Settings, simulator: Running) -> None:
        self.scenario, self.provider, self.simulator = scenario, provider, simulator
        self.settings = settings.model_copy(
            update={
                "task_queue": f"faults-{secrets.token_hex(4)}",
                "openai_base_url": simulator.openai_base_url,
                "anthropic_base_url": simulator.anthropic_base_url,
            }
        )

    async def script(self) -> None:
        async with httpx.AsyncClient(base_url=self.simulator.url) as http:
            for operation, match, effect in self.scenario.faults:
                name = DOWNLOADS[self.provider] if operation == "results" else operation
                fault = {"match": {"operation": name, **match}, "effect": effect}
                (await http.post("/_simulator/faults", json=fault)).raise_for_status()
            if "mixed" in self.scenario.name:
                await self._let_some_fail(http)

    async def _let_some_fail(self, http: httpx.AsyncClient) -> None:
        """The last ones, which no other fault of the scenario meets first."""
        answers = [
            {"custom_id": f"fails-{number}{'' if self.provider == 'openai' else '-*'}", "error": {"kind": "server"}}
            for number in range(FAILING)
        ]
        (await http.put("/_simulator/answers", json=answers)).raise_for_status()

    async def batches_made(self) -> int:
        async with httpx.AsyncClient(base_url=self.simulator.url) as http:
            return int((await http.get("/_simulator/state")).json()["batch_counts"][self.provider])

    @asynccontextmanager
    async def working(self, temporal: Client) -> AsyncIterator[None]:
        services = Services(self.settings, Store.from_settings(self.settings))
        async with compose(temporal, services):
            yield
        await services.aclose()

    async def run(self, temporal: Client, store: Store) -> Row:
        await self.script()
        overnight = Overnight(settings=self.settings, store=store, temporal=temporal)
        batch = await overnight.create_batch(provider=self.provider, model=MODELS[self.provider])
        names = iter(self._names())
        await batch.add_all((SayWord(number=n) for n in range(SIZE)), custom_id=lambda _: next(names))
        started = time.monotonic()
        await batch.submit()
        if self.scenario.kills_worker:
            await self._kill_a_worker_that_created(temporal.service_client.config.target_host)
        async with self.working(temporal):
            await batch.wait()
        reported = told([entry.outcome async for entry in batch.entries()])
        return Row(
            scenario=self.scenario.name,
            provider=self.provider,
            reported=reported,
            truth=self.scenario.truth,
            batches=await self.batches_made(),
            seconds=time.monotonic() - started,
        )

    async def _kill_a_worker_that_created(self, temporal_address: str) -> None:
        assert self.settings.database_url is not None
        environment = {
            "TEMPORAL_ADDRESS": temporal_address,
            "OVERNIGHT_DATABASE_URL": self.settings.database_url.get_secret_value(),
            "OVERNIGHT_TASK_QUEUE": self.settings.task_queue,
            "OVERNIGHT_LIST_SETTLES": "0.5",
            "OVERNIGHT_RESULTS_SETTLE": "0.5",
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": self.settings.openai_base_url,
            "ANTHROPIC_API_KEY": "sk-benchmark",
            "ANTHROPIC_BASE_URL": self.settings.anthropic_base_url,
        }
        command = [sys.executable, str(ROOT / "worker.py"), "--log-level", "ERROR"]
        worker = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment}, cwd=ROOT)
        try:
            while not await self.batches_made():  # noqa: ASYNC110 - it happens in two other processes
                await asyncio.sleep(0.01)
        finally:
            worker.kill()
            await worker.wait()

    def _names(self) -> list[str]:
        failing = FAILING if "mixed" in self.scenario.name else 0
        return [f"fails-{n}" if n < failing else f"entry-{n}" for n in range(SIZE)]


def told(outcomes: Iterable[Outcome | None]) -> Truth:
    words = list(outcomes)
    ok, missing = words.count(Outcome.SUCCEEDED), words.count(Outcome.MISSING)
    return Truth(ok=ok, missing=missing, err=len(words) - ok - missing - words.count(None))


async def measure(stack: Stack, names: Sequence[str]) -> list[Row]:
    settings = Settings(
        database_url=SecretStr(stack.postgres.url),
        openai_api_key=SecretStr("sk-benchmark"),
        anthropic_api_key=SecretStr("sk-benchmark"),
        poll_waits=(timedelta(seconds=0.2),),
        list_settles=timedelta(seconds=0.5),
        results_settle=timedelta(seconds=0.5),
    )
    store = Store.from_settings(settings)
    await store.upgrade()
    temporal = await Client.connect(stack.temporal.address, data_converter=pydantic_data_converter)
    wanted = [scenario for scenario in SCENARIOS if not names or any(name in scenario.name for name in names)]
    room = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario, provider: str) -> Row:
        async with room:
            with running(SimulatorConfig(stages=STAGES)) as simulator:
                return await Bench(scenario, provider, settings, simulator).run(temporal, store)

    rows = await asyncio.gather(*(one(scenario, provider) for scenario in wanted for provider in MODELS))
    await store.aclose()
    return rows


def table(rows: Sequence[Row]) -> str:
    head = ("scenario", "provider", "reported ok/err/missing", "truth", "provider batches", "verdict")
    return "\n".join([_line(*head), _line(*["---"] * len(head)), *(_row(row) for row in rows)])


def _row(row: Row) -> str:
    verdict = "exact" if row.good else "**WRONG**"
    return _line(row.scenario, row.provider, _counts(row.reported), _counts(row.truth), str(row.batches), verdict)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _counts(truth: Truth) -> str:
    return f"{truth.ok}/{truth.err}/{truth.missing}"


async def main(options: argparse.Namespace) -> int:
    async with running_stack(durable=False, dynamic_config={"history.timerProcessorMaxTimeShift": "10ms"}) as stack:
        rows = await measure(stack, options.only)
    print(json.dumps([asdict(row) | {"good": row.good} for row in rows], indent=2) if options.json else table(rows))
    return 0 if rows and all(row.good for row in rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="scenarios whose name holds TEXT")
    logging.basicConfig(level=logging.CRITICAL)
    sys.exit(asyncio.run(main(parser.parse_args())))
