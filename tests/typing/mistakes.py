# pyright: strict
"""What a user gets wrong, and what a type checker must say so. Nothing in here runs."""

from overnight import Message, Task, run


class Ask(Task[str]):
    text: str

    def prompt(self) -> str:
        return self.text


class WrongPrompt(Task[str]):
    def prompt(self) -> int:  # wrong
        return 3


class WrongSetting(Task[str]):
    max_tokens = "fifty"  # wrong


async def ask() -> None:
    entry = await run(Ask(text="a"), provider="openai", model="m")
    number: int = entry.output  # wrong
    Ask(text="a").with_settings(max_token=5)  # wrong
    Ask(text="a").with_settings(max_tokens="5")  # wrong
    Message(role="system", content=str(number))  # wrong
