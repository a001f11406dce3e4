"""Who answers: the default responder, scripted answers in front of it, and loading one by name."""

import fnmatch
import importlib
import logging
import math
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from overnight.simulator.models import (
    NO_VALUE,
    ErrorKind,
    ModelError,
    ModelReply,
    ModelRequest,
    Provider,
    Responder,
    ToolCall,
)
from overnight.simulator.schema_instance import UnusableSchemaError, make_instance

logger = logging.getLogger(__name__)

WORDS = re.compile(r"\w+")
EXTRACT_WORDS = 40


class DefaultResponder:
    """Something sensible made from the request: a valid instance for a schema, a valid call for a demanded tool,
    one call of each of the provider's own tools, a unit vector for an embedding, and an extract of the prompt for
    anything else.
    """

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        if request.inputs:
            return ModelReply(embeddings=tuple(unit_vector(text, request.dimensions) for text in request.inputs))
        if request.tools and request.tool_choice not in {"auto", "none"}:
            return ModelReply(tool_calls=(_call(request),))
        calls = request.provider_tools
        if request.schema is not None:
            value = make_instance(request.schema, request.rng, _words(request))
            return ModelReply(value=value, provider_calls=calls)
        return ModelReply(text=_extract(request.prompt), provider_calls=calls)


def _words(request: ModelRequest) -> list[str]:
    return WORDS.findall(request.prompt[-800:])


def _call(request: ModelRequest) -> ToolCall:
    tool = next((t for t in request.tools if t.name == request.tool_choice), request.tools[0])
    arguments = make_instance({"type": "object", **tool.schema}, request.rng, _words(request))
    return ToolCall(name=tool.name, arguments=arguments)


def _extract(prompt: str) -> str:
    words = prompt.split(maxsplit=EXTRACT_WORDS)
    return " ".join(words[:EXTRACT_WORDS]) or "There was nothing to answer."


def unit_vector(text: str, dimensions: int) -> tuple[float, ...]:
    """The same text has the same direction, whatever the seed: equal inputs must embed equally."""
    rng = Random(text)
    raw = [rng.uniform(-1, 1) for _ in range(dimensions)]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return tuple(round(x / length, 8) for x in raw)


def load_responder(wanted: Responder | str | None) -> Responder:
    """A responder as configured. A class is instantiated without arguments.

    Raises ValueError for a name that does not lead to something callable.
    """
    if wanted is None:
        return DefaultResponder()
    if not isinstance(wanted, str):
        return wanted
    module, _, attribute = wanted.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f'No responder at "{wanted}": {error}. Name it as "module:attribute".') from error
    made = found() if isinstance(found, type) else found
    if not callable(made):
        raise ValueError(f'The responder "{wanted}" is not callable.')  # noqa: TRY004  (a wrong setting, not a wrong type)
    return made  # type: ignore[no-any-return]  # a callable from the user's module is all that can be known


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScriptedToolCall(_Spec):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ScriptedError(_Spec):
    kind: ErrorKind = "server"
    message: str = "The server had an error while processing your request."
    status: int | None = None


class ScriptedAnswer(_Spec):
    """What the entries whose custom_id matches answer, instead of asking the responder."""

    custom_id: str
    """A custom_id, or a pattern with `*` and `?`: clients often decorate the ids that they put on the wire."""
    provider: Provider | None = None
    """None means both: a client may decorate its ids for one of them only."""
    ask_responder: bool = False
    """Leave these entries to the responder after all: it is how one answer out of many is taken back."""
    text: str | None = None
    value: Any = None
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    refusal: str | None = None
    error: ScriptedError | None = None
    embeddings: tuple[tuple[float, ...], ...] = ()
    cut_off: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def key(self) -> tuple[str, Provider | None]:
        """A second answer of the same key replaces the first."""
        return self.custom_id, self.provider

    def fits(self, request: ModelRequest) -> bool:
        """Whether the answer is meant for this entry."""
        return self.provider in {None, request.provider} and fnmatch.fnmatchcase(str(request.custom_id), self.custom_id)

    def reply(self) -> ModelReply:
        return ModelReply(
            text=self.text,
            value=self.value if "value" in self.model_fields_set else NO_VALUE,
            tool_calls=tuple(ToolCall(name=c.name, arguments=c.arguments) for c in self.tool_calls),
            refusal=self.refusal,
            error=ModelError(**self.error.model_dump()) if self.error else None,
            embeddings=self.embeddings,
            cut_off=self.cut_off,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )


def _width(answer: ScriptedAnswer) -> tuple[bool, int]:
    return "*" in answer.custom_id, -len(answer.custom_id)


class ScriptedResponder:
    """Scripted answers first, exact ids before patterns and narrow patterns before wide ones, then the responder."""

    def __init__(self, answers: Sequence[ScriptedAnswer], behind: Responder) -> None:
        self.exact = {answer.key: answer for answer in answers}
        self.patterns = sorted((a for a in answers if set(a.custom_id) & set("*?[")), key=_width)
        self.behind = behind

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        answer = self._scripted(request, request.custom_id) if request.custom_id is not None else None
        return answer.reply() if answer and not answer.ask_responder else self.behind(request)

    def _scripted(self, request: ModelRequest, custom_id: str) -> ScriptedAnswer | None:
        exact = self.exact.get((custom_id, request.provider)) or self.exact.get((custom_id, None))
        return exact or next((answer for answer in self.patterns if answer.fits(request)), None)


def ask(responder: Responder, request: ModelRequest) -> ModelReply:
    """One bad entry never stops a batch: whatever the responder raises becomes that entry's error."""
    try:
        return responder(request)
    except UnusableSchemaError as error:
        return ModelReply(error=ModelError(kind="invalid_request", message=str(error)))
    except Exception:
        logger.exception("The responder failed on %s", request.custom_id, extra={"event": "simulator.responder.failed"})
        return ModelReply(error=ModelError())
