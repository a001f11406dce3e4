"""Tools: functions and classes whose arguments a model fills in, and tools that the provider runs itself."""

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic_core import PydanticSerializationError, from_json, to_json

from overnight.batches import ToolCall
from overnight.errors import ToolDefinitionError
from overnight.providers.base import RawToolCall, ToolSpec
from overnight.texts import first_errors, storable, told

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNKNOWN_TOOL, INVALID_ARGUMENTS, FAILED, NOT_RUN = "unknown_tool", "invalid_arguments", "failed", "not_run"

ToolSource = Callable[..., Any] | type[BaseModel]
"""A function with typed arguments, or a pydantic model, with a method `run` where something is to be done."""


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool may know besides its arguments: an argument of this type is not the model's to fill in.

    Attributes:
        batch_id: None outside batches.
        number: of the call within its answer, from 1.
        task: the Task whose answer asks for the call.
    """

    batch_id: UUID | None
    custom_id: str
    call_id: str
    number: int
    task: Any

    @property
    def idempotency_key(self) -> str:
        """The same whenever the same call is made again. A process can die behind a call and before its result is
        committed, and then the tool runs again.
        """
        return f"{self.batch_id or 'run'}:{self.custom_id}:{self.number}:{self.call_id}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tool:
    """A tool in one form, whatever it was made from.

    Attributes:
        arguments: reads the model's arguments, by the names in the schema.
        call: does the work with the arguments that were read.
    """

    spec: ToolSpec
    arguments: type[BaseModel]
    call: Callable[[BaseModel, ToolContext], Any]

    def read(self, arguments: Any) -> BaseModel:
        """The arguments, without those that the tool does not know.

        Raises:
            ValidationError: they do not fit.
        """
        if isinstance(arguments, dict):
            known = self.spec.schema.get("properties", {})
            arguments = {name: value for name, value in arguments.items() if name in known}
        return self.arguments.model_validate_json(to_json(arguments))


@dataclass(frozen=True, kw_only=True)
class CheckedCall:
    """A call before any tool has run: ready with its tool and arguments, or with the reason why it cannot be made."""

    call: ToolCall
    tool: Tool | None = None
    arguments: BaseModel | None = None


@cache
def tool_of(source: ToolSource) -> Tool:
    """The tool that a function or class is.

    Raises:
        ToolDefinitionError: a model could not be told what its arguments are.
    """
    name = getattr(source, "__name__", "")
    if not NAME.fullmatch(name):
        raise ToolDefinitionError(repr(source), "its name must be letters, digits, '-' and '_', 64 at most")
    try:
        tool = _of_model(source) if isinstance(source, type) else _of_function(source)
    except (PydanticUserError, NameError, TypeError) as error:
        raise ToolDefinitionError(name, f"its arguments have no JSON schema: {error}") from error
    return tool


@cache
def tools_of(sources: tuple[ToolSource, ...]) -> Mapping[str, Tool]:
    """The tools by the names that the model calls them by.

    Raises:
        ToolDefinitionError: two share a name, or one is none.
    """
    tools = {tool.spec.name: tool for tool in map(tool_of, sources)}
    if len(tools) < len(sources):
        raise ToolDefinitionError(", ".join(sorted(tools)), "two tools of one Task have the same name")
    return tools


def _of_model(model: type[Any]) -> Tool:
    if not issubclass(model, BaseModel):
        raise ToolDefinitionError(model.__name__, "a class must be a pydantic model")
    run = getattr(model, "run", None)
    if run is None:
        return Tool(spec=_spec(model, model.__name__, model.__doc__), arguments=model, call=_nothing)
    parameters = list(inspect.signature(run).parameters)[1:]
    wants_context = bool(parameters)

    def call(arguments: BaseModel, context: ToolContext) -> Any:
        return run(arguments, **({parameters[0]: context} if wants_context else {}))

    return Tool(spec=_spec(model, model.__name__, model.__doc__), arguments=model, call=_kept(call, run))


async def _nothing(arguments: BaseModel, context: ToolContext) -> None:  # noqa: ARG001 - its arguments are all there is to it
    return None


def _of_function(function: Callable[..., Any]) -> Tool:
    """Fields get names of their own and the parameters' as aliases: `copy` and `json` are pydantic's, say."""
    fields: dict[str, Any] = {}
    own: dict[str, str] = {}
    context_name: str | None = None
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.annotation is ToolContext:
            context_name = parameter.name
            continue
        _check_parameter(function, parameter)
        default = ... if parameter.default is parameter.empty else parameter.default
        own[parameter.name] = f"argument_{parameter.name}"
        fields[own[parameter.name]] = (parameter.annotation, Field(default, alias=parameter.name))
    model = create_model(function.__name__, __config__=ConfigDict(extra="ignore"), **fields)

    def call(arguments: BaseModel, context: ToolContext) -> Any:
        given = {name: getattr(arguments, field) for name, field in own.items()}
        return function(**given, **({context_name: context} if context_name else {}))

    return Tool(spec=_spec(model, function.__name__, function.__doc__), arguments=model, call=_kept(call, function))


def _check_parameter(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ToolDefinitionError(function.__name__, f"its argument {parameter.name!r} cannot be given by name")
    if parameter.annotation is parameter.empty:
        raise ToolDefinitionError(function.__name__, f"its argument {parameter.name!r} has no type")


def _kept(call: Callable[[BaseModel, ToolContext], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Synchronous tools run in a thread: while one waits, heartbeats and other batches must get their turn."""
    if inspect.iscoroutinefunction(original):
        return call

    async def in_thread(arguments: BaseModel, context: ToolContext) -> Any:
        return await asyncio.to_thread(call, arguments, context)

    return in_thread


def _spec(model: type[BaseModel], name: str, described: str | None) -> ToolSpec:
    schema = model.model_json_schema()
    schema.pop("description", None)
    return ToolSpec(name=name, description=inspect.cleandoc(described or "") or None, schema=schema)


def checked(calls: Sequence[RawToolCall], tools: Mapping[str, Tool]) -> list[CheckedCall]:
    """The calls of an answer, each with its tool and arguments or with what is wrong with it; nothing has run yet."""
    return [_checked(call, tools.get(call.name)) for call in calls]


def _checked(raw: RawToolCall, tool: Tool | None) -> CheckedCall:
    call = ToolCall(id=storable(raw.id), name=storable(raw.name), arguments=raw.arguments)
    if tool is None:
        why = "The Task has no tool of this name."
        return CheckedCall(call=replace(call, error_code=UNKNOWN_TOOL, error=why))
    try:
        arguments = tool.read(raw.arguments)
        said = from_json(arguments.model_dump_json(by_alias=True, exclude_unset=True), allow_inf_nan=False)
    except ValidationError as error:
        return CheckedCall(call=replace(call, error_code=INVALID_ARGUMENTS, error=first_errors(error)))
    except (PydanticSerializationError, ValueError) as error:
        return CheckedCall(call=replace(call, error_code=INVALID_ARGUMENTS, error=told(error)))
    return CheckedCall(call=replace(call, arguments=said), tool=tool, arguments=arguments)


def without_running(calls: Sequence[CheckedCall]) -> list[ToolCall]:
    """What is left of the calls of an answer that cannot be used."""
    why = "The answer could not be used, so its tools did not run."
    return [item.call if item.call.error_code else replace(item.call, error_code=NOT_RUN, error=why) for item in calls]


async def run_all(calls: Sequence[CheckedCall], *, batch_id: UUID | None, custom_id: str, task: Any) -> list[ToolCall]:
    """Run the tools, one after the other as the model wrote them; what one raises stays with its call."""
    done = []
    for number, item in enumerate(calls, start=1):
        context = ToolContext(batch_id=batch_id, custom_id=custom_id, call_id=item.call.id, number=number, task=task)
        done.append(await _run(item, context))
    return done


async def _run(item: CheckedCall, context: ToolContext) -> ToolCall:
    if item.tool is None or item.arguments is None:
        return item.call
    try:
        result = await item.tool.call(item.arguments, context)
        return replace(item.call, result=from_json(to_json(result), allow_inf_nan=False))
    except Exception as error:  # noqa: BLE001 - the user's own, whatever it raises
        return replace(item.call, error_code=FAILED, error=told(error))


def dump_calls(calls: Sequence[ToolCall]) -> str:
    """The calls as JSON text, for storage."""
    return to_json(calls).decode()


def load_calls(stored: str | None) -> Sequence[ToolCall]:
    """The calls that `dump_calls` wrote."""
    return tuple(ToolCall(**call) for call in from_json(stored)) if stored else ()
