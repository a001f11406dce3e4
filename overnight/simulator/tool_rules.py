"""Tools: what each provider takes, and what it says of anything else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from overnight.simulator.errors import ApiError
from overnight.simulator.models import ProviderTool, Tool
from overnight.simulator.schema_rules import check_anthropic_tool, check_openai_schema

OPENAI_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ANTHROPIC_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
OPENAI_HOSTED: Mapping[str, ProviderTool] = {"web_search": "web_search", "code_interpreter": "code_execution"}
ANTHROPIC_HOSTED = re.compile(r"(web_search|code_execution)_(20\d{6})")
MOST_STRICT = 20


def openai_tools(body: Mapping[str, Any], *, chat: bool) -> tuple[tuple[Tool, ...], tuple[ProviderTool, ...]]:
    """The functions, and what OpenAI itself runs, which it does on `/v1/responses` alone."""
    functions: list[Tool] = []
    hosted: list[ProviderTool] = []
    for number, tool in enumerate(body.get("tools") or ()):
        param = f"tools[{number}]"
        kind = str(tool.get("type")) if isinstance(tool, Mapping) else ""
        if kind == "function":
            functions.append(_function(tool.get("function") if chat else tool, f"{param}.function" if chat else param))
        elif kind in OPENAI_HOSTED and not chat:
            _check_hosted(tool, kind, param)
            hosted.append(OPENAI_HOSTED[kind])
        else:
            raise ApiError(f"Invalid value: '{kind}'.", param=f"{param}.type", code="invalid_value")
    _check_openai_choice(body.get("tool_choice"), functions, any_tools=bool(functions or hosted))
    return tuple(functions), tuple(hosted)


def _function(spec: Any, param: str) -> Tool:
    name = spec.get("name") if isinstance(spec, Mapping) else None
    if not isinstance(name, str):
        raise ApiError(f"Missing required parameter: '{param}.name'.", param=param, code="missing_required_parameter")
    if not OPENAI_NAME.fullmatch(name):
        message = f"Invalid '{param}.name': expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        raise ApiError(message, param=f"{param}.name", code="invalid_value")
    parameters = spec.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ApiError(f"Invalid type for '{param}.parameters'.", param=param, code="invalid_type")
    if spec.get("strict"):
        check_openai_schema(parameters, name, f"{param}.parameters", what="function")
    return Tool(name=name, schema=parameters)


def _check_hosted(tool: Mapping[str, Any], kind: str, param: str) -> None:
    if kind == "code_interpreter" and not isinstance(tool.get("container"), str | Mapping):
        message = f"Missing required parameter: '{param}.container'."
        raise ApiError(message, param=f"{param}.container", code="missing_required_parameter")


def _check_openai_choice(choice: Any, functions: Sequence[Tool], *, any_tools: bool) -> None:
    if choice is not None and not any_tools:
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise ApiError(message, param="tool_choice", code="invalid_value")
    if isinstance(choice, str) and choice not in {"auto", "none", "required"}:
        raise ApiError(f"Invalid value: '{choice}'.", param="tool_choice", code="invalid_value")
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        named = choice.get("function", choice)
        if not isinstance(named, Mapping) or named.get("name") not in {tool.name for tool in functions}:
            message = "Tool choice names a function that is not in 'tools'."
            raise ApiError(message, param="tool_choice", code="invalid_value")


def anthropic_tools(body: Mapping[str, Any]) -> tuple[tuple[Tool, ...], tuple[ProviderTool, ...]]:
    """The client's tools, and Anthropic's own."""
    own: list[Tool] = []
    hosted: list[ProviderTool] = []
    names: set[str] = set()
    for number, tool in enumerate(body.get("tools") or ()):
        where = f"tools.{number}"
        if not isinstance(tool, Mapping):
            raise ApiError(f"{where}: Input should be a valid dictionary")
        found = ANTHROPIC_HOSTED.fullmatch(str(tool.get("type")))
        if found:
            hosted.append(_hosted(tool, found[1], where))
        else:
            own.append(_own(tool, where))
        if tool["name"] in names:
            raise ApiError("tools: Tool names must be unique.")
        names.add(tool["name"])
    strict = [tool for tool in body.get("tools") or () if tool.get("strict")]
    if len(strict) > MOST_STRICT:
        raise ApiError(f"tools: at most {MOST_STRICT} strict tools are supported")
    _check_anthropic_choice(body.get("tool_choice"), names)
    return tuple(own), tuple(hosted)


def _hosted(tool: Mapping[str, Any], kind: str, where: str) -> ProviderTool:
    if tool.get("name") != kind:
        raise ApiError(f"{where}.{kind}.name: Input should be '{kind}'")
    if tool.get("allowed_domains") and tool.get("blocked_domains"):
        raise ApiError(f"{where}: Only one of allowed_domains and blocked_domains can be given")
    uses = tool.get("max_uses")
    if uses is not None and (not isinstance(uses, int) or uses < 1):
        raise ApiError(f"{where}.{kind}.max_uses: Input should be greater than 0")
    return "web_search" if kind == "web_search" else "code_execution"


def _own(tool: Mapping[str, Any], where: str) -> Tool:
    if tool.get("type") not in {None, "custom"}:
        raise ApiError(f"{where}: Input tag '{tool['type']}' does not match any of the expected tags")
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not ANTHROPIC_NAME.fullmatch(name):
        raise ApiError(f"{where}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ApiError(f"{where}.custom.input_schema.type: Field required")
    if tool.get("strict"):
        check_anthropic_tool(schema, where)
    return Tool(name=name, schema=schema)


def _check_anthropic_choice(choice: Any, names: set[str]) -> None:
    if choice is None:
        return
    if not isinstance(choice, Mapping) or choice.get("type") not in {"auto", "any", "tool", "none"}:
        raise ApiError("tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'")
    if choice["type"] in {"any", "tool"} and not names:
        raise ApiError("tool_choice: may only be specified while providing tools")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise ApiError(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
