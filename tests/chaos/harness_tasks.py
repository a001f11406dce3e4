"""What the batches under test ask, and the handler whose effects are counted."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import text

from overnight import BatchHandler, CampaignHandler, Task
from overnight.handlers import Handler
from overnight.providers.base import Response
from tests.chaos.harness_points import reach

OUTSIDE = "CHAOS_OUTSIDE"
TABLES = """
create table effects (batch_id uuid not null, custom_id text not null, outcome text not null);
create table runs (batch_id uuid not null, hook text not null);
"""


class Verdict(BaseModel):
    label: str
    confidence: float


class Judge(Task[Verdict], name="chaos-judge"):
    review: str
    system = "You judge product reviews."
    max_tokens = 200

    def prompt(self) -> str:
        return f"How does this reviewer feel?\n\n{self.review}"


async def note(handler: Handler, subject_id: UUID, hook: str) -> None:
    async with handler.transaction() as connection:
        row = {"batch_id": subject_id, "hook": hook}
        await connection.execute(text("insert into runs values (:batch_id, :hook)"), row)


async def keep(handler: Handler, subject_id: UUID) -> None:
    async with handler.transaction() as connection:
        async for entry in handler.entries():
            assert entry.outcome is not None
            row = {"batch_id": subject_id, "custom_id": entry.custom_id, "outcome": entry.outcome.value}
            await connection.execute(text("insert into effects values (:batch_id, :custom_id, :outcome)"), row)
            reach("handler.inside")


class KeepEffects(BatchHandler, name="chaos-keep"):
    """One row per entry and one per hook, without any constraint that would hide a second run."""

    async def on_completion(self) -> None:
        tell_outside(self.batch.id)
        await self._note("completion")

    async def on_success(self) -> None:
        await self._keep()
        await self._note("success")

    async def on_failure(self) -> None:
        await self._keep()
        await self._note("failure")

    async def _note(self, hook: str) -> None:
        await note(self, self.batch.id, hook)

    async def _keep(self) -> None:
        await keep(self, self.batch.id)


class KeepAndFollow(KeepEffects, name="chaos-follow"):
    """Starts the next batch, in two portions."""

    async def on_success(self) -> None:
        await super().on_success()
        following = await self.overnight.create_batch(
            provider=self.batch.provider, model=self.batch.model, handler=KeepEffects
        )
        await following.add_all([Judge(review=f"review {n} of what follows") async for n in self._numbers()])
        await following.add(Judge(review="the last review"))
        await following.submit()

    async def _numbers(self) -> AsyncIterator[int]:
        number = 0
        async for _ in self.entries(Judge):
            yield (number := number + 1)


class KeepCampaign(CampaignHandler, name="chaos-keep-campaign"):
    """The same over a whole campaign, under its id."""

    async def on_completion(self) -> None:
        tell_outside(self.campaign.id)

    async def on_success(self) -> None:
        await self._keep("success")

    async def on_failure(self) -> None:
        await self._keep("failure")

    async def _keep(self, hook: str) -> None:
        async with self.transaction():
            await note(self, self.campaign.id, hook)
            await keep(self, self.campaign.id)


class Quote(BatchHandler, name="chaos-quote"):
    """Fails twice, in the way that tells most: its error quotes the prompt and what came of it."""

    async def on_completion(self) -> None:
        if tell_outside(self.batch.id) < 3:
            quoted = [
                f"{entry.task}, {entry.output if entry.succeeded else None}, {entry.reason}"
                async for entry in self.entries()
            ]
            raise RuntimeError(f"cannot digest {quoted}")


class ReadsBadly(Task[str], name="chaos-reads-badly"):
    """Its `read` quotes the answer in what it raises."""

    review: str

    def prompt(self) -> str:
        return self.review

    def read(self, response: Response) -> str:
        raise RuntimeError(f"cannot read {response.text!r} as an answer to {self.review!r}")


def tell_outside(batch_id: UUID) -> int:
    """An effect that no transaction of ours can take back: a line in a file, under the batch's id. Says how many."""
    path = Path(os.environ[OUTSIDE])
    with path.open("a") as file:
        file.write(f"{batch_id}\n")
    return path.read_text().count(f"{batch_id}")
