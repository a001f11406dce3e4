"""What a further round asks."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_core import from_json

from overnight import Message, Task
from overnight.batches import Outcome
from overnight.providers import provider_facts
from overnight.repairing import Repairer
from overnight.storage.rounds import Candidate
from overnight.tasks import tasks

LINE = """{"custom_id": "a-1", "response": {"status_code": 200, "body": {"status": "completed", "output": [
{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "nonsense"}]}]}}}"""


class Count(BaseModel):
    number: int


class Ask(Task[Count], name="repair-ask"):
    question: str

    def prompt(self) -> str:
        return self.question


class AskInWords(Ask, name="repair-in-words"):
    def repair(self, error: str, answer: str) -> Any:
        return f"{self.question} Not {answer}."


class AskDifferently(Ask, name="repair-differently"):
    def repair(self, error: str, answer: str) -> Task[Any]:
        return Ask(question=f"{self.question} In digits.")


class CannotAsk(Ask, name="repair-cannot"):
    def repair(self, error: str, answer: str) -> list[Message]:
        raise RuntimeError(f"cannot digest {answer}")


def candidate(task: type[Ask], outcome: Outcome = Outcome.INVALID) -> Candidate:
    return Candidate(
        batch_id=UUID(int=1),
        position=7,
        custom_id="a-1",
        task=tasks.name_of(task),
        fields='{"question":"How many?"}',
        request='{"input":"as it was"}',
        outcome=outcome,
        error_code="invalid_output",
        reason="it is no number.",
        line=LINE,
    )


REPAIRER = Repairer(provider_facts("openai"), model="gpt-5.4-mini", endpoint="/v1/responses")


def texts(request: str) -> str:
    return str(from_json(request)["input"])


def test_by_default_the_answer_and_what_is_wrong_about_it_are_held_against_the_model() -> None:
    further = REPAIRER.further(candidate(Ask))
    assert further is not None
    assert all(part in texts(further.request) for part in ("How many?", "nonsense", "it is no number."))
    assert (further.custom_id, further.task, further.earlier_position) == ("a-1", "repair-ask", 7)


def test_a_task_may_ask_in_other_words_or_become_another_task() -> None:
    in_words, differently = REPAIRER.further(candidate(AskInWords)), REPAIRER.further(candidate(AskDifferently))
    assert in_words is not None
    assert differently is not None
    assert "How many? Not nonsense." in texts(in_words.request)
    assert (differently.task, differently.fields) == ("repair-ask", '{"question":"How many? In digits."}')


def test_a_task_that_cannot_say_what_to_ask_stays_as_it_is_and_is_not_quoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert REPAIRER.further(candidate(CannotAsk)) is None
    assert "nonsense" not in caplog.text


def test_what_got_no_answer_is_asked_as_it_was() -> None:
    further = REPAIRER.further(candidate(Ask, Outcome.EXPIRED))
    assert further is not None
    assert further.request == '{"input":"as it was"}'
