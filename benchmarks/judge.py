"""The Task of the benchmarks; its answers are those of `stand.write_lines`."""

from pydantic import BaseModel

from overnight import Task


class Verdict(BaseModel):
    label: str
    confidence: float
    quote: str


class Judge(Task[Verdict]):
    review: str
    system = "You judge product reviews."

    def prompt(self) -> str:
        return f"How does this reviewer feel about the product?\n\n{self.review}"
