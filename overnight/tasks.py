"""Task: fields in, prompt out; response in, typed output out."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from overnight.errors import RequestError, ResponseError, UnknownTaskError
from overnight.providers.base import Message, Prompt, Response
from overnight.registry import Names

OutputT = TypeVar("OutputT")

_FENCED = re.compile(r"\A\s*```[a-z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


class Task(BaseModel, Generic[OutputT]):
    """One kind of question, with typed answers.

    A subclass declares its fields as a pydantic model does, says what it asks in `prompt`, and names the type of its
    answers: `class Summarize(Task[str])`, `class Classify(Task[Sentiment])` with a pydantic model, or
    `class Embed(Task[list[float]])` for embeddings endpoints. The fields are stored with the entry, so that a handler
    gets the same task back.

    The class is registered under its name, or under another one: `class Classify(Task[Sentiment], name="classify")`.
    Batches in flight refer to that name: keep it when the class moves or is renamed.

    Attributes:
        system: the system prompt.
        max_tokens: upper bound of the answer; a longer one is cut off, which makes the entry `invalid`.
        temperature: sampling temperature; some models take none.
        reasoning_effort: the provider's own word, e.g. "low".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: ClassVar[str | None] = None
    max_tokens: ClassVar[int | None] = None
    temperature: ClassVar[float | None] = None
    reasoning_effort: ClassVar[str | None] = None

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # `name` is for the hook below, which runs when the fields are known

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_generic_metadata__["origin"] is None and not cls.__pydantic_generic_metadata__["parameters"]:
            tasks.register(cls, name)

    def prompt(self) -> str | Sequence[Message]:
        """What to ask: one user message, or a whole conversation."""
        raise NotImplementedError(f"{type(self).__name__} has no prompt(): define one that returns the question.")

    def render(self) -> Prompt:
        """The whole of what is asked, in no provider's form.

        Raises:
            RequestError: the prompt is empty.
        """
        asked = self.prompt()
        messages = [Message(role="user", content=asked)] if isinstance(asked, str) else list(asked)
        if not any(message.content.strip() for message in messages):
            raise RequestError(f"{type(self).__name__}.prompt() returned an empty prompt.")
        return Prompt(
            messages=messages,
            system=self.system,
            output_schema=_schema(type(self)),
            output_name=tasks.name_of(type(self)),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            reasoning_effort=self.reasoning_effort,
        )

    def read(self, response: Response) -> OutputT:
        """The output that a response holds. Override it for answers that need more than validation.

        Raises:
            ResponseError: the response is refused, cut off, blank, or does not fit the output type.
        """
        _refuse_unusable(response)
        adapter = _adapter(type(self))
        try:
            if response.embedding is not None:
                return cast("OutputT", adapter.validate_python(list(response.embedding)))
            if _output_type(type(self)) is str:
                return cast("OutputT", response.text)
            return cast("OutputT", adapter.validate_json(_without_fence(response.text)))
        except ValidationError as error:
            raise ResponseError("invalid_output", _first_errors(error)) from None

    def dump_fields(self) -> str:
        """The fields as JSON, for storage: under their own names, whatever aliases they have.

        Raises:
            RequestError: they have no JSON form, or one that does not read back (NaN, an excluded field). It is said
                before anything is paid, for without its fields the Task could not read the answer.
        """
        try:
            stored = self.model_dump_json(round_trip=True, by_alias=False, warnings=False)
            self.load_fields(stored)
        except ValidationError as error:
            raise RequestError(f"The fields do not survive being stored as JSON: {_first_errors(error)}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            raise RequestError(f"The fields cannot be stored as JSON: {error}") from None
        return stored

    @classmethod
    def load_fields(cls, stored: str) -> Self:
        """The task that `dump_fields` wrote."""
        return cls.model_validate_json(stored, by_alias=False, by_name=True)

    @classmethod
    def dump_output(cls, output: OutputT) -> str:
        """The output as JSON, for storage.

        Raises:
            ResponseError: it has no JSON form, or one that does not read back as the output type.
        """
        try:
            stored = _adapter(cls).dump_json(output, round_trip=True, by_alias=False, warnings=False).decode()
            cls.load_output(stored)
        except ValidationError as error:
            raise ResponseError("invalid_output", f"The output does not fit its type: {_first_errors(error)}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            raise ResponseError("invalid_output", f"The output cannot be stored as JSON: {error}") from None
        return stored

    @classmethod
    def load_output(cls, stored: str) -> OutputT:
        """The output that `dump_output` wrote."""
        return cast("OutputT", _adapter(cls).validate_json(stored, by_alias=False, by_name=True))


def _refuse_unusable(response: Response) -> None:
    if response.refusal is not None:
        raise ResponseError("refused", f"The model declined to answer: {response.refusal}")
    if response.truncated:
        raise ResponseError("truncated", f"The answer was cut off ({response.finish_reason}); raise max_tokens.")
    if response.embedding is None and not response.text.strip():
        raise ResponseError("blank", f"The answer holds no text (finish reason {response.finish_reason}).")


def _without_fence(text: str) -> str:
    """Models that were only asked for JSON like to wrap it as Markdown code."""
    fenced = _FENCED.match(text)
    return fenced.group(1) if fenced else text


def _first_errors(error: ValidationError) -> str:
    """What did not fit, field by field; the values stay out of it, for they are the model's words."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    shown = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in items[:3])
    return shown + (f"; and {len(items) - 3} more" if len(items) > 3 else "")


@cache
def _output_type(cls: type[Task[Any]]) -> Any:
    """The X of the Task[X] that a class derives from, also by way of generic classes in between."""
    output: Any = OutputT
    for base in reversed(cls.__mro__):
        metadata = getattr(base, "__pydantic_generic_metadata__", None)
        if metadata and metadata["origin"] is not None:
            parameters = metadata["origin"].__pydantic_generic_metadata__["parameters"]
            output = _filled(output, dict(zip(parameters, metadata["args"], strict=True)))
    if isinstance(output, TypeVar):
        raise UnknownTaskError(
            "output type of task", cls.__name__, "Derive it from Task[...]: str, or a pydantic model."
        )
    return output


def _filled(kind: Any, arguments: Mapping[Any, Any]) -> Any:
    """A type with type variables in it, and what they stand for."""
    if isinstance(kind, TypeVar):
        return arguments.get(kind, kind)
    variables = getattr(kind, "__parameters__", ())
    return kind[tuple(arguments.get(variable, variable) for variable in variables)] if variables else kind


@cache
def _adapter(cls: type[Task[Any]]) -> TypeAdapter[Any]:
    return TypeAdapter(_output_type(cls))


@cache
def _schema(cls: type[Task[Any]]) -> dict[str, Any] | None:
    # Text needs no schema; and a bare vector is what embeddings endpoints return, which take none.
    return None if _output_type(cls) in (str, list[float]) else _adapter(cls).json_schema()


tasks: Names[Task[Any]] = Names("task", UnknownTaskError)
"""All Task classes that were imported in this process."""
