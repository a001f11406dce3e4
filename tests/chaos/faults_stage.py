"""A deployment whose provider misbehaves by script, and the one question that is asked of it afterwards.

The worker runs in this process, the servers are real, and the provider is the simulator over HTTP. What the provider
did (batches that it made, lines that it sent, files that it holds) is read from the provider, by code of its own, and
then held against what the database says.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import psycopg
from pydantic import BaseModel, SecretStr
from sqlalchemy import text

from activities import Services
from overnight import BatchHandler, Outcome, Overnight, Task
from overnight.batches import Batch, BatchStatus
from overnight.client import BatchHandle
from overnight.notices import Notice, NoticeKind
from overnight.settings import Settings
from overnight.simulator.serve import Running
from overnight.storage.store import Store
from worker import compose

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
DOWNLOADS = {"openai": "files.content", "anthropic": "batches.results"}
SIZE = 40


class Word(BaseModel):
    word: str


class FaultyWord(Task[Word]):
    number: int
    max_tokens = 200

    def prompt(self) -> str:
        return f"Say a word for number {self.number}."


class KeepEffect(BatchHandler, name="chaos-faults-keep-effect"):
    async def on_completion(self) -> None:
        row = {"batch_id": self.batch.id, "status": self.batch.status.value}
        async with self.transaction() as connection:
            await connection.execute(text("insert into effects values (:batch_id, :status)"), row)


class Recorder:
    """A notifier that remembers."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def notify(self, notice: Notice) -> None:
        self.notices.append(notice)

    def of(self, batch_id: UUID) -> list[Notice]:
        return [notice for notice in self.notices if notice.batch_id == batch_id]


@dataclass
class Stage:
    """One provider's side of a deployment."""

    provider: str
    overnight: Overnight
    settings: Settings
    http: httpx.AsyncClient
    recorder: Recorder
    strangers: set[str] = field(default_factory=set)

    # The script.

    async def fault(self, effect: Mapping[str, Any], operation: str = "batches.create", **match: Any) -> None:
        """`results` stands for what this provider calls the download of results."""
        operation = DOWNLOADS[self.provider] if operation == "results" else operation
        fault = {"match": {"provider": self.provider, "operation": operation, **match}, "effect": effect}
        (await self.http.post("/_simulator/faults", json=fault)).raise_for_status()

    async def heal(self) -> None:
        await self.http.delete("/_simulator/faults")

    async def advance(self, seconds: float) -> None:
        await self.http.post("/_simulator/advance", json={"seconds": seconds})

    async def change(self, provider_batch_id: str, **change: Any) -> None:
        (await self.http.post(f"/_simulator/batches/{provider_batch_id}", json=change)).raise_for_status()

    async def stranger(self, size: int = SIZE) -> str:
        """Somebody else's batch in the same account."""
        params = {"model": MODELS["anthropic"], "max_tokens": 9, "messages": [{"role": "user", "content": "Hello."}]}
        requests = [{"custom_id": f"theirs-{number}", "params": params} for number in range(size)]
        headers = {"x-api-key": "sk-somebody-else", "anthropic-version": "2023-06-01"}
        answer = await self.http.post("/v1/messages/batches", json={"requests": requests}, headers=headers)
        self.strangers.add(answer.json()["id"])
        return str(answer.json()["id"])

    # The batch.

    async def submitted(self, size: int = SIZE, **options: Any) -> BatchHandle:
        batch = await self.overnight.create_batch(
            provider=self.provider, model=MODELS[self.provider], handler=KeepEffect, **options
        )
        await batch.add_all([FaultyWord(number=number) for number in range(size)])
        await batch.submit()
        return batch

    # What the provider knows.

    async def state(self) -> dict[str, Any]:
        return dict((await self.http.get("/_simulator/state")).json())

    async def made(self) -> list[dict[str, Any]]:
        """The provider batches of ours, in the order of making."""
        batches = (await self.state())["batches"]
        ours = [item for item in batches if item["provider"] == self.provider and item["id"] not in self.strangers]
        return sorted(ours, key=lambda item: item["created_at"])

    async def calls(self, operation: str) -> int:
        calls = (await self.state())["calls"]
        return sum(
            item["count"] for item in calls if (item["provider"], item["operation"]) == (self.provider, operation)
        )

    async def until_made(self, count: int = 1) -> list[dict[str, Any]]:
        while len(made := await self.made()) < count:
            await asyncio.sleep(0.02)
        return made

    async def sent(self, provider_batch_id: str) -> list[bytes]:
        """The result lines as they lie at the provider."""
        headers = {"authorization": "Bearer sk-auditor", "x-api-key": "sk-auditor", "anthropic-version": "2023-06-01"}
        paths = [f"/v1/messages/batches/{provider_batch_id}/results"]
        if self.provider == "openai":
            answer = (await self.http.get(f"/v1/batches/{provider_batch_id}", headers=headers)).json()
            files = [answer[name] for name in ("output_file_id", "error_file_id") if answer[name]]
            paths = [f"/v1/files/{file}/content" for file in files]
        answers = [await self.http.get(path, headers=headers) for path in paths]
        whole = b"".join(answer.content for answer in answers if answer.status_code == 200)
        return [line for line in whole.split(b"\n") if line.strip()]


@asynccontextmanager
async def working(stage: Stage, settings: Settings | None = None) -> AsyncIterator[None]:
    """A worker, which tells the stage's recorder what there is to tell."""
    settings = settings or stage.settings
    services = Services(settings, Store.from_settings(settings), [stage.recorder])
    async with compose(stage.overnight.temporal, services):
        yield
    await services.aclose()


def wrong_key(settings: Settings) -> Settings:
    key = SecretStr("invalid-key")
    return settings.model_copy(update={"openai_api_key": key, "anthropic_api_key": key})


@asynccontextmanager
async def set_up(overnight: Overnight, settings: Settings, simulator: Running) -> AsyncIterator[dict[str, Stage]]:
    """A stage per provider, on one deployment."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table effects (batch_id uuid, status text)")
    recorder = Recorder()
    async with httpx.AsyncClient(base_url=simulator.url, timeout=30) as http:
        yield {
            provider: Stage(provider=provider, overnight=overnight, settings=settings, http=http, recorder=recorder)
            for provider in MODELS
        }


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must have come of a batch, beyond what must hold for every batch."""

    status: BatchStatus = BatchStatus.ENDED
    outcomes: Mapping[Outcome, int] | None = None
    strays: Mapping[str, int] = field(default_factory=dict)
    made: int = 1
    """Provider batches that were ever made for it; all but its own must be canceled, or failed without pay."""
    paid_orphans: int = 0
    """Those among them that could not be proven to be ours before they had ended."""
    told: list[NoticeKind] | None = None
    readable: bool = True
    """Whether the provider's results could be read at all."""
    all_read: bool = True
    """Whether all was read that the provider may have billed."""


async def check(stage: Stage, handle: BatchHandle, expected: Expected) -> None:
    """One provider batch, one outcome per entry, every line accounted for, nothing twice, nothing left behind."""
    await stage.heal()
    batch = await handle.get()
    made = await stage.made()
    assert batch.status is expected.status, batch.failure_reason
    check_made(batch, made, expected)
    await check_entries(handle, batch, expected)
    if expected.readable:
        await check_lines(stage, batch, expected)
    await check_effects(stage, batch)
    check_uploads(batch, made, await stage.state())
    check_notices(stage.recorder.of(batch.id), expected)


def check_made(batch: Batch, made: list[dict[str, Any]], expected: Expected) -> None:
    own = [item for item in made if item["id"] == batch.provider_batch_id]
    others = [item for item in made if item["id"] != batch.provider_batch_id]
    assert len(made) == expected.made
    assert len(own) == (1 if batch.provider_batch_id else 0)
    paid = [item for item in others if not item["failure"] and item["cancel_at"] is None]
    assert len(paid) == expected.paid_orphans


async def check_entries(handle: BatchHandle, batch: Batch, expected: Expected) -> None:
    entries = [entry async for entry in handle.entries(FaultyWord)]
    outcomes = Counter(entry.outcome for entry in entries)
    assert len({entry.custom_id for entry in entries}) == len(entries) == batch.entry_count
    assert None not in outcomes
    assert outcomes == Counter(batch.outcomes)
    if expected.outcomes is not None:
        assert outcomes == Counter(expected.outcomes)
    assert all((entry.output_or_none is not None) == (entry.outcome is Outcome.SUCCEEDED) for entry in entries)
    assert all(entry.reason for entry in entries if entry.outcome is not Outcome.SUCCEEDED)
    answered = [entry.cost.billed for entry in entries if entry.outcome in {Outcome.SUCCEEDED, Outcome.INVALID}]
    if None in answered or not expected.all_read:  # tokens that nobody counted
        assert batch.cost.billed is None
    else:
        assert batch.cost.billed == sum(entry.cost.billed or 0 for entry in entries)
    assert batch.usage.output_tokens == sum(entry.usage.output_tokens for entry in entries)


async def check_lines(stage: Stage, batch: Batch, expected: Expected) -> None:
    counts = await stage.overnight.store.results.line_counts(batch.id)
    lines = await stage.sent(batch.provider_batch_id) if batch.provider_batch_id else []
    strays = {"duplicate": counts.duplicate, "unknown": counts.unknown, "malformed": counts.malformed}
    assert counts.accepted + sum(strays.values()) == len(lines)
    assert counts.accepted + counts.without_line == batch.entry_count
    assert {kind: count for kind, count in strays.items() if count} == dict(expected.strays)
    first = first_lines(lines)
    tokens = sum(output_tokens(value) for name, value in first.items() if not name.startswith("nobody"))
    assert batch.usage.output_tokens == tokens  # whatever was paid is counted, readable or not


def first_lines(lines: list[bytes]) -> dict[str, Any]:
    """The first line per id. The standard library's reader takes nearly everything."""
    found: dict[str, Any] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("custom_id"), str):
            found.setdefault(value["custom_id"], value)
    return found


def output_tokens(value: Any) -> int:
    for path in (("response", "body", "usage", "output_tokens"), ("result", "message", "usage", "output_tokens")):
        part = value
        for key in path:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, int):
            return part
    return 0


async def check_effects(stage: Stage, batch: Batch) -> None:
    async with stage.overnight.store._engine.connect() as connection:
        query = text("select status from effects where batch_id = :batch_id")
        effects = list((await connection.execute(query, {"batch_id": batch.id})).scalars())
    assert effects == [batch.status.value]


def check_uploads(batch: Batch, made: list[dict[str, Any]], state: Mapping[str, Any]) -> None:
    if batch.provider != "openai":
        return
    mine = {item["id"] for item in state["files"] if str(batch.id) in item["filename"] and item["purpose"] == "batch"}
    assert mine == {item["input_file_id"] for item in made if item["id"] == batch.provider_batch_id}


def check_notices(notices: list[Notice], expected: Expected) -> None:
    kinds = [notice.kind for notice in notices]
    told: set[tuple[NoticeKind, str]] = set()
    for notice in notices:
        assert (notice.kind, notice.code) not in told, notices
        told = set() if notice.kind is NoticeKind.RECOVERED else told | {(notice.kind, notice.code)}
    if expected.told is not None:
        assert kinds == expected.told
