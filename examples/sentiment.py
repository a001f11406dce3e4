"""Classify reviews overnight: results in Postgres, and in a table of our own."""

import asyncio
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import text

from overnight import BatchHandler, Outcome, Overnight, Task


class Sentiment(BaseModel):
    label: Literal["positive", "neutral", "negative"]
    confidence: float


class Classify(Task[Sentiment]):
    review: str
    system = "You judge product reviews."

    def prompt(self) -> str:
        return f"How does this reviewer feel about the product?\n\n{self.review}"


class SaveSentiments(BatchHandler):
    async def on_success(self) -> None:
        async with self.transaction() as connection:  # commits once, together with "this handler has run"
            await connection.execute(text("create table if not exists sentiments (review text, label text)"))
            async for entry in self.entries(Classify, outcomes=[Outcome.SUCCEEDED]):
                row = {"review": entry.task.review, "label": entry.output.label}
                await connection.execute(text("insert into sentiments values (:review, :label)"), row)


async def main() -> None:
    reviews = ["Works like a charm.", "It broke after two days.", "Does what the box says."]
    async with Overnight.connect() as overnight:
        batch = await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5", handler=SaveSentiments)
        await batch.add_all(Classify(review=review) for review in reviews)
        await batch.submit()  # from here on everything may crash, restart and be deployed
        finished = await batch.wait()
        answers = finished.outcomes.get(Outcome.SUCCEEDED, 0)
        print(f"{finished.status}: {answers} answers for ${finished.cost.billed}")


if __name__ == "__main__":
    asyncio.run(main())
