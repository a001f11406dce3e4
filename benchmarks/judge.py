"""The Task of the benchmarks, whose answers are those of `stand.write_lines`, and a handler that reads them all."""

from pydantic import BaseModel

from overnight import BatchHandler, Task


class Verdict(BaseModel):
    label: str
    confidence: float
    quote: str


class Judge(Task[Verdict]):
    review: str
    system = "You judge product reviews."

    def prompt(self) -> str:
        return f"How does this reviewer feel about the product?\n\n{self.review}"


class ReadAll(BatchHandler):
    async def on_completion(self) -> None:
        assert [None async for entry in self.entries(Judge) if not entry.output.label] == []
