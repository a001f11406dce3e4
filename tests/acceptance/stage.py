"""What the acceptance tests stand on: the simulator's control endpoints, and activities that run when they are told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import httpx
from pydantic import BaseModel
from temporalio.testing import ActivityEnvironment

from activities import Services, bulk_activities, short_activities
from overnight import Overnight, Task
from overnight.client import BatchHandle
from overnight.contracts import (
    BatchRef,
    BatchStart,
    DispatchRequest,
    ExpireRequest,
    OpenRequest,
    PollReport,
    PollRequest,
)
from overnight.handling import handler_activities
from overnight.notices import Notice

MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5"}
RESULTS = {"openai": "files.content", "anthropic": "batches.results"}


class Verdict(BaseModel):
    label: Literal["good", "bad"]


class Weigh(Task[Verdict], name="acceptance-weigh"):
    text: str
    system = "You weigh words."
    max_tokens = 100

    def prompt(self) -> str:
        return f"Is this good or bad? {self.text}"


@dataclass(frozen=True)
class AtTheProvider:
    """The simulator, by its control endpoints."""

    http: httpx.AsyncClient

    async def answer(self, *answers: dict[str, Any]) -> None:
        """Scripted answers, by the pattern of a custom id."""
        (await self.http.put("/_simulator/answers", json=list(answers))).raise_for_status()

    async def fault(self, provider: str, operation: str, effect: dict[str, Any], **match: Any) -> None:
        fault = {"match": {"provider": provider, "operation": operation, **match}, "effect": effect}
        (await self.http.post("/_simulator/faults", json=fault)).raise_for_status()

    async def heal(self) -> None:
        (await self.http.delete("/_simulator/faults")).raise_for_status()

    async def advance(self, seconds: float) -> None:
        (await self.http.post("/_simulator/advance", json={"seconds": seconds})).raise_for_status()

    async def calls(self) -> Counter[str]:
        """How often each operation was asked for, answered or not."""
        found: Counter[str] = Counter()
        for call in (await self.http.get("/_simulator/state")).json()["calls"]:
            found[call["operation"]] += call["count"]
        return found


class Hears:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def notify(self, notice: Notice) -> None:
        self.notices.append(notice)


class Steps:
    """The activities as one worker runs them, called by name."""

    def __init__(self, overnight: Overnight, services: Services) -> None:
        self.overnight = overnight
        self._environment = ActivityEnvironment(client=overnight.temporal)
        implementations = [*short_activities(services), *bulk_activities(services), *handler_activities(services)]
        self._by_name = {step.__name__: step for step in implementations}

    async def batch(self, provider: str, words: Sequence[str] = ("one", "two"), **options: Any) -> BatchHandle:
        """A sealed batch that no workflow looks after; each word is an entry's custom id, too."""
        batch = await self.overnight.create_batch(provider=provider, model=MODELS[provider], **options)
        await batch.add_all((Weigh(text=word) for word in words), custom_id=lambda task: task.text)
        start = BatchStart(batch_id=batch.id)
        await self._run("open_batch", OpenRequest(start=start, workflow_id=f"batch-{batch.id}", run_id="by hand"))
        return batch

    async def submit(self, batch_id: UUID) -> Any:
        await self._run("upload_entries", BatchRef(batch_id=batch_id))
        return await self._run("create_provider_batch", BatchRef(batch_id=batch_id))

    async def poll(self, batch_id: UUID, heard: PollReport | None = None) -> Any:
        """One poll, of a workflow that has heard this much."""
        known = heard.provider_batch_id if heard else None
        return await self._run("fetch_status", PollRequest(batch_id=batch_id, provider_batch_id=known))

    async def expire(self, batch_id: UUID, *, final: bool = False) -> Any:
        return await self._run("expire_batch", ExpireRequest(batch_id=batch_id, final=final))

    async def ingest(self, batch_id: UUID) -> Any:
        return await self._run("ingest_results", BatchRef(batch_id=batch_id))

    async def hydrate(self, batch_id: UUID) -> Any:
        return await self._run("hydrate_results", BatchRef(batch_id=batch_id))

    async def dispatch(self, batch_id: UUID) -> Any:
        return await self._run("dispatch_handler", DispatchRequest(batch_id=batch_id))

    async def _run(self, name: str, request: Any) -> Any:
        return await self._environment.run(self._by_name[name], request)
