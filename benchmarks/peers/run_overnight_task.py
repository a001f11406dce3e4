"""overnight with a Task: requests rendered from fields, answers validated into the task's output type."""

from judge import Verdict
from run_overnight import run
from same import MAX_TOKENS, prompt

from overnight import Task


class Ask(Task[Verdict]):
    number: int
    max_tokens = MAX_TOKENS

    def prompt(self) -> str:
        return prompt(self.number)


if __name__ == "__main__":
    run(lambda number: Ask(number=number))
