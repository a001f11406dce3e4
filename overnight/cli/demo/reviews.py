"""The demo's job, as a user would write it: a task with a typed output, and a handler with a table of its own.

The worker imports this module: `overnight worker --import overnight.cli.demo.reviews`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from pydantic import BaseModel, Field

from overnight import BatchHandler, Outcome, Task
from overnight.cli.demo import wording
from overnight.cli.demo.snippets import Sentiment
from overnight.storage.database import create_engine
from overnight.storage.dispatches import Connection

TABLE = "review_verdicts"

_CREATE = f"""
create table if not exists {TABLE} (
    batch_id uuid not null,
    custom_id text not null,
    sentiment text not null,
    confidence double precision not null,
    deciding_words text[] not null,
    primary key (batch_id, custom_id)
)
"""
_INSERT = f"insert into {TABLE} values (%(batch)s, %(custom_id)s, %(sentiment)s, %(confidence)s, %(words)s)"  # noqa: S608
_COUNT = f"select count(*) from {TABLE} where batch_id = %(batch)s"  # noqa: S608 - both names are constants


class Verdict(BaseModel):
    sentiment: Sentiment
    confidence: float = Field(ge=0, le=1)
    deciding_words: list[str]


class JudgeReview(Task[Verdict], name="overnight-demo-judge-review"):
    snippet: str
    text: str

    system = wording.SYSTEM
    max_tokens = 500

    def prompt(self) -> str:
        return wording.question(self.text)


class StoreVerdicts(BatchHandler, name="overnight-demo-store-verdicts"):
    async def on_completion(self) -> None:
        """Whatever was answered is worth keeping, however the batch ended."""
        async with self.transaction() as connection:
            async for entry in self.entries(JudgeReview, outcomes=[Outcome.SUCCEEDED]):
                row = {
                    "batch": self.batch.id,
                    "custom_id": entry.custom_id,
                    "sentiment": entry.output.sentiment,
                    "confidence": entry.output.confidence,
                    "words": entry.output.deciding_words,
                }
                await connection.exec_driver_sql(_INSERT, row)


@asynccontextmanager
async def _transaction(url: str) -> AsyncIterator[Connection]:
    engine = create_engine(url)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def create_table(url: str) -> None:
    """Make the handler's table, as a user's own migrations would."""
    async with _transaction(url) as connection:
        await connection.exec_driver_sql(_CREATE)


async def count_rows(url: str, batch_id: UUID) -> int:
    """How many rows the handler wrote for a batch."""
    async with _transaction(url) as connection:
        rows: int = (await connection.exec_driver_sql(_COUNT, {"batch": batch_id})).scalar_one()
    return rows
