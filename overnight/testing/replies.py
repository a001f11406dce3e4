"""What a model can be made to say: one vocabulary for answers without servers and for the simulator."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from overnight.batches import Outcome
from overnight.errors import UsageError
from overnight.simulator.models import ErrorKind, ModelError, ModelReply, ModelRequest, ToolCall

Reply = Any
"""Text, a pydantic model, any JSON value, a `ModelReply` (as the functions here make them), or a callable that takes
the `ModelRequest` and returns one of these.
"""

Answering = Callable[[ModelRequest], Reply]


def refused(words: str = "I cannot help with that.") -> ModelReply:
    """The model declines: the entry becomes `invalid`, with the code `refused`."""
    return ModelReply(refusal=words)


def cut_off(text: str) -> ModelReply:
    """The token budget ran out here: the entry becomes `invalid`, with the code `truncated`."""
    return ModelReply(text=text, cut_off=True)


def errored(kind: ErrorKind = "server", message: str = "The model could not answer.") -> ModelReply:
    """The provider answers this entry with an error: the entry becomes `errored`."""
    return ModelReply(error=ModelError(kind=kind, message=message))


def calls_tool(name: str, arguments: Mapping[str, Any] | None = None) -> ModelReply:
    """The model wants a tool to be called, and says nothing else."""
    return ModelReply(tool_calls=(ToolCall(name=name, arguments=dict(arguments or {})),))


def vector(*numbers: float) -> ModelReply:
    """What an embeddings endpoint answers."""
    return ModelReply(embeddings=(tuple(numbers),))


def reply_of(given: Reply) -> ModelReply:
    """The given reply in the simulator's form.

    Raises:
        UsageError: an outcome, which is nothing that a model could say.
    """
    match given:
        case ModelReply():
            return given
        case Outcome():
            raise UsageError(
                f"No model answers {given.value!r}: it is what becomes of an entry. Use refused(), cut_off() or "
                f"errored() for what a model or a provider says, and Outcome.MISSING for an entry without a line."
            )
        case str():
            return ModelReply(text=given)
        case _:
            return ModelReply(value=to_jsonable_python(given, by_alias=True))
