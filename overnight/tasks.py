"""Task: fields in, prompt out; response in, typed output out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, ClassVar, Generic, Self, TypeVar, Unpack, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypedDict

from overnight.content import Message, Part, conversation
from overnight.errors import RequestError, ResponseError, UnknownTaskError
from overnight.markup import Html, sanitiser, without_fence
from overnight.provider_tools import ProviderTool
from overnight.providers.base import Prompt, Response, ToolSpec
from overnight.registry import Names
from overnight.texts import first_errors
from overnight.tools import Tool, ToolSource, tools_of

OutputT = TypeVar("OutputT")


@with_config(ConfigDict(extra="forbid", strict=True))
class ModelSettings(TypedDict, total=False):
    """What a Task's class says of the model's work, and a single task can say otherwise; None takes a setting away."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: list[str] | None
    reasoning_effort: str | None


SETTINGS = tuple(ModelSettings.__annotations__)
_SETTINGS = TypeAdapter(ModelSettings)
_OWN_SETTINGS = '{"$settings":'
"""How stored fields begin when the task has settings of its own. No field can have that name."""


class Task(BaseModel, Generic[OutputT]):
    """One kind of question, with typed answers.

    A subclass declares its fields as a pydantic model does, says what it asks in `prompt`, and names the type of its
    answers: `class Summarize(Task[str])`, `class Classify(Task[Sentiment])` with a pydantic model,
    `class Describe(Task[Html])` for safe HTML, `class Embed(Task[list[float]])` for embeddings endpoints, or
    `class Triage(Task[None])` where only the tool calls count. The fields are stored with the entry, so that a handler
    gets the same task back.

    The class is registered under its name, or under another one: `class Classify(Task[Sentiment], name="classify")`.
    Batches in flight refer to that name: keep it when the class moves or is renamed.

    The settings of the model, `max_tokens` to `reasoning_effort`, hold for every task of the class;
    `task.with_settings(...)` changes them for one.

    Attributes:
        system: the system prompt; override `system_prompt` for one that is made from fields.
        max_tokens: upper bound of the answer; a longer one is cut off, which makes the entry `invalid`.
        temperature: sampling temperature; some models take none.
        top_p: nucleus sampling; some models take none, or not together with a temperature.
        stop: texts at which the answer ends; not every endpoint has them.
        reasoning_effort: the provider's own word, e.g. "low".
        tools: functions with typed arguments, or pydantic models, that the model may ask to be called. They are called
            when the batch is hydrated; see `Entry.tool_calls`.
        tool_choice: "auto", "required", "none", or the name of the tool that must be called.
        provider_tools: tools that the provider runs itself, `WebSearch()` or `CodeExecution()`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: ClassVar[str | None] = None
    max_tokens: ClassVar[int | None] = None
    temperature: ClassVar[float | None] = None
    top_p: ClassVar[float | None] = None
    stop: ClassVar[Sequence[str] | None] = None
    reasoning_effort: ClassVar[str | None] = None
    tools: ClassVar[Sequence[ToolSource]] = ()
    tool_choice: ClassVar[str] = "auto"
    provider_tools: ClassVar[Sequence[ProviderTool]] = ()

    _own: ModelSettings = PrivateAttr(default_factory=ModelSettings)

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # `name` is for the hook below, which runs when the fields are known

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_generic_metadata__["origin"] is None and not cls.__pydantic_generic_metadata__["parameters"]:
            tasks.register(cls, name)

    def with_settings(self, **settings: Unpack[ModelSettings]) -> Self:
        """The same task with settings of its own, which are stored with it.

        Raises:
            RequestError: a setting that there is not, or of the wrong type.
        """
        changed = self.model_copy()
        changed._own = self._own | _settings(settings)  # noqa: SLF001 - a copy of ourselves
        return changed

    def _all_settings(self) -> ModelSettings:
        """The task's own settings, and those of its class for the rest."""
        return cast("ModelSettings", {name: getattr(self, name) for name in SETTINGS} | self._own)

    def prompt(self) -> str | Sequence[Message | Part]:
        """What to ask: one text; texts, images and files that make up one message; or a whole conversation."""
        raise NotImplementedError(f"{type(self).__name__} has no prompt(): define one that returns the question.")

    def system_prompt(self) -> str | None:
        """The system prompt; by default the class's `system`."""
        return self.system

    def render(self) -> Prompt:
        """The whole of what is asked, in no provider's form.

        Raises:
            RequestError: the prompt is empty, or holds an image or file that is none.
            ToolDefinitionError: a tool is none.
            MissingExtraError: the answers are HTML, and the extra `html` is not installed.
        """
        shape = _shape(type(self))
        try:
            messages = conversation(self.prompt())
        except ValidationError as error:
            raise RequestError(f"prompt(): {first_errors(error)}.") from None
        if not any(not isinstance(part, str) or part.strip() for message in messages for part in message.parts):
            raise RequestError(f"{type(self).__name__}.prompt() returned an empty prompt.")
        return Prompt(
            messages=messages,
            system=self.system_prompt(),
            output_schema=shape.schema,
            output_name=shape.name,
            tools=shape.tools,
            tool_choice=self.tool_choice,
            provider_tools=self.provider_tools,
            **self._all_settings(),
        )

    def repair(self, error: str, answer: str) -> "Task[Any] | str | Sequence[Message | Part]":
        """What to ask in a further round of a campaign, after an answer that was `invalid`.

        By default the conversation goes on: with the answer, and with what is wrong about it. Where there was no
        answer to speak of, the same is asked once more.

        Args:
            error: why it was `invalid`.
            answer: the answer's text; empty when it had none.

        Returns:
            What `prompt` may return, whose answer this same Task reads; or a Task, which is then the entry's.
        """
        messages = conversation(self.prompt())
        if not answer.strip():
            return messages
        complaint = f"That answer cannot be used: {error} Answer again, in full, in the form that was asked for."
        return [*messages, Message(role="assistant", content=answer), Message(role="user", content=complaint)]

    def read(self, response: Response) -> OutputT:
        """The output that a response holds. Override it for answers that need more than validation; it is not asked for
        answers that hold tool calls alone.

        Raises:
            ResponseError: the response is refused, cut off, blank, or does not fit the output type.
        """
        refuse_unusable(response)
        kind = _output_type(type(self))
        if kind is str:
            return cast("OutputT", response.text)
        if kind is NoneType:
            return cast("OutputT", None)
        return self._validated(response)

    def _validated(self, response: Response) -> OutputT:
        adapter = _adapter(type(self))
        try:
            if response.embedding is not None:
                return cast("OutputT", adapter.validate_python(list(response.embedding)))
            if _output_type(type(self)) is Html:
                return cast("OutputT", _html(response.text))
            return cast("OutputT", adapter.validate_json(without_fence(response.text)))
        except ValidationError as error:
            raise ResponseError("invalid_output", first_errors(error)) from None

    def dump_fields(self) -> str:
        """The fields as JSON, for storage: under their own names, whatever aliases they have; behind the task's
        own settings, where there are any.

        Raises:
            RequestError: they have no JSON form, or one that does not read back (NaN, an excluded field). It is said
                before anything is paid, for without its fields the Task could not read the answer.
        """
        try:
            stored = self.model_dump_json(round_trip=True, by_alias=False, warnings=False)
            self.model_validate_json(stored, by_alias=False, by_name=True)
        except ValidationError as error:
            raise RequestError(f"The fields do not survive being stored as JSON: {first_errors(error)}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            raise RequestError(f"The fields cannot be stored as JSON: {error}") from None
        if not self._own:
            return stored
        return f"{_OWN_SETTINGS}{to_json(self._own).decode()}{',' if stored != '{}' else ''}{stored[1:]}"

    @classmethod
    def load_fields(cls, stored: str) -> Self:
        """The task that `dump_fields` wrote."""
        if not stored.startswith(_OWN_SETTINGS):
            return cls.model_validate_json(stored, by_alias=False, by_name=True)
        fields = from_json(stored)
        settings = fields.pop("$settings")
        return cls.model_validate_json(to_json(fields), by_alias=False, by_name=True).with_settings(**settings)

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
            raise ResponseError("invalid_output", f"The output does not fit its type: {first_errors(error)}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            raise ResponseError("invalid_output", f"The output cannot be stored as JSON: {error}") from None
        return stored

    @classmethod
    def load_output(cls, stored: str) -> OutputT:
        """The output that `dump_output` wrote."""
        return cast("OutputT", _adapter(cls).validate_json(stored, by_alias=False, by_name=True))


def tools_for(cls: type[Task[Any]]) -> Mapping[str, Tool]:
    """The tools of a Task by name.

    Raises:
        ToolDefinitionError: one is none, or two share a name.
    """
    return tools_of(tuple(cls.tools))


def refuse_unusable(response: Response) -> None:
    """Refuse what is no answer, whatever the Task.

    Raises:
        ResponseError: the response is refused, cut off, or blank.
    """
    if response.refusal is not None:
        raise ResponseError("refused", f"The model declined to answer: {response.refusal}")
    if response.truncated:
        raise ResponseError("truncated", f"The answer was cut off ({response.finish_reason}); raise max_tokens.")
    if response.embedding is None and not response.text.strip():
        raise ResponseError("blank", f"The answer holds no text (finish reason {response.finish_reason}).")


def _html(text: str) -> Html:
    fragment = Html.from_answer(text)
    if not fragment.strip():
        raise ResponseError("blank", "Nothing is left of the answer once it is sanitised.")
    return fragment


def _settings(settings: Any) -> ModelSettings:
    try:
        return _SETTINGS.validate_python(settings)
    except ValidationError as error:
        raise RequestError(f"settings: {first_errors(error)}") from None


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What is the same for all tasks of a class, and made once."""

    name: str
    schema: Mapping[str, Any] | None
    tools: Sequence[ToolSpec]


@cache
def _shape(cls: type[Task[Any]]) -> _Shape:
    if _output_type(cls) is Html:
        sanitiser()  # it had better be missed before the batch is paid for
    tools = tuple(tool.spec for tool in tools_for(cls).values())
    return _Shape(name=tasks.name_of(cls), schema=_schema(cls), tools=tools)


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
    return NoneType if output is None else output


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
    return None if _output_type(cls) in (str, Html, NoneType, list[float]) else _adapter(cls).json_schema()


tasks: Names[Task[Any]] = Names("task", UnknownTaskError)
"""All Task classes that were imported in this process."""
