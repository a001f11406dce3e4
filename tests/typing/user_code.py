# pyright: strict
"""What a user writes, and which types both checkers must give it. Nothing in here runs."""

from collections.abc import Sequence
from typing import Literal, assert_type

from pydantic import BaseModel

from overnight import (
    BatchHandler,
    Entry,
    File,
    Html,
    Image,
    Message,
    Outcome,
    Overnight,
    RawRequest,
    Task,
    ToolCall,
    ToolContext,
    WebSearch,
    run,
)


class Sentiment(BaseModel):
    label: Literal["good", "bad"]


class CreateTicket(BaseModel):
    """Open a ticket."""

    title: str

    async def run(self, context: ToolContext) -> str:
        return context.idempotency_key


async def look_up(city: str, context: ToolContext) -> float:
    """The temperature in a city."""
    return float(len(city) + len(context.call_id))


class Classify(Task[Sentiment]):
    review: str
    system = "You judge product reviews."
    max_tokens = 50
    temperature = 0.5
    stop = ("END",)
    tools = (look_up, CreateTicket)
    tool_choice = "CreateTicket"
    provider_tools = (WebSearch(max_uses=3),)

    def prompt(self) -> str:
        return self.review


class Describe(Task[Html]):
    photo: Image
    paper: File | None = None

    def prompt(self) -> list[str | Image | File]:
        return [self.photo, "What is this?"]

    def system_prompt(self) -> str:
        return "Be brief."


class Chat(Task[str]):
    def prompt(self) -> Sequence[Message]:
        return [
            Message(role="user", content=[Image(url="https://example.com/a.png"), "What is this?"]),
            Message(role="assistant", content="An owl."),
        ]


class Triage(Task[None]):
    tools = (CreateTicket,)

    def prompt(self) -> str:
        return "?"


async def ask(overnight: Overnight) -> None:
    classified = await run(Classify(review="a").with_settings(max_tokens=5), provider="openai", model="m")
    assert_type(classified, Entry[Sentiment])
    assert_type(classified.output, Sentiment)
    assert_type(classified.tool_calls, Sequence[ToolCall])
    assert_type(classified.tool_calls[0].parsed(CreateTicket), CreateTicket)
    assert_type(Classify(review="a").with_settings(temperature=None, stop=["END"]), Classify)

    described = await overnight.run(Describe(photo=Image(data=b"")), provider="anthropic", model="m")
    assert_type(described.output, Html)
    assert_type((await run(Chat(), provider="openai", model="m")).output, str)
    assert_type((await run(Triage(), provider="openai", model="m")).outcome, Outcome | None)
    raw = await run(RawRequest(body={"model": "m"}), provider="openai", model="m")
    assert_type(raw.custom_id, str)


async def read(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="anthropic", model="m")
    await batch.add(Classify(review="a"), custom_id="a")
    await batch.add_all(Classify(review=text).with_settings(max_tokens=5) for text in ("a", "b"))
    async for entry in batch.entries(Classify, outcomes=[Outcome.SUCCEEDED]):
        assert_type(entry.output.label, Literal["good", "bad"])


class Save(BatchHandler):
    async def on_success(self) -> None:
        async for entry in self.entries(Classify):
            assert_type(entry, Entry[Sentiment])
            assert_type(entry.output_or_none, Sentiment | None)
