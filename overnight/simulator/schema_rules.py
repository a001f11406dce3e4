"""What the providers demand of a schema before a model sees it; people meet these first on a paid run."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from overnight.simulator.errors import ApiError
from overnight.simulator.jsontext import dump, parse

MOST_PROPERTIES, MOST_ENUM_VALUES = 5_000, 1_000
"""OpenAI's."""
MOST_OPTIONAL, MOST_UNIONS = 24, 16
"""Anthropic's."""


def check_openai_schema(schema: Mapping[str, Any], name: str, param: str, *, what: str = "response_format") -> None:
    """`strict: true`: closed objects with every property required."""
    complaint = _openai_complaint(dump(schema))
    if complaint:
        code = "invalid_json_schema" if what == "response_format" else "invalid_function_parameters"
        raise ApiError(f"Invalid schema for {what} '{name}': {complaint}", param=param, code=code)


def check_anthropic_tool(schema: Mapping[str, Any], where: str) -> None:
    """`strict: true` on a tool."""
    complaint = _anthropic_complaint(dump(schema))
    if complaint:
        raise ApiError(f"{where}.custom.input_schema: {complaint}")


def check_anthropic_schema(form: Any) -> None:
    if (
        not isinstance(form, Mapping)
        or form.get("type") != "json_schema"
        or not isinstance(form.get("schema"), Mapping)
    ):
        raise ApiError("output_config.format: Input should be a json_schema with a schema")
    complaint = _anthropic_complaint(dump(form["schema"]))
    if complaint:
        raise ApiError(f"output_config.format.schema: {complaint}")


# A batch repeats one schema thousands of times: the answer is kept per schema text.
@lru_cache(maxsize=128)
def _openai_complaint(raw: bytes) -> str | None:
    root = parse(raw)
    properties = enums = 0
    if root.get("type") != "object" and "$ref" not in root:
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{root.get('type')}\"'."
    for path, node in _objects(root, ()):
        properties += len(node.get("properties", {}))
        enums += sum(len(part.get("enum") or ()) for part in node.get("properties", {}).values())
        where = f"In context={path!r}, "
        if node.get("additionalProperties") is not False:
            return where + "'additionalProperties' is required to be supplied and to be false."
        missing = [key for key in node.get("properties", {}) if key not in (node.get("required") or ())]
        if missing:
            return (
                where + "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'."
            )
    if properties > MOST_PROPERTIES or enums > MOST_ENUM_VALUES:
        return f"schema is too large: {properties} properties, {enums} enum values."
    return None


@lru_cache(maxsize=128)
def _anthropic_complaint(raw: bytes) -> str | None:
    optional = unions = 0
    for _, node in _objects(parse(raw), ()):
        if node.get("additionalProperties") is not False:
            return "For 'object' type, 'additionalProperties' must be explicitly set to false"
        properties = node.get("properties", {})
        optional += len(set(properties) - set(node.get("required") or ()))
        unions += sum("anyOf" in part or isinstance(part.get("type"), list) for part in properties.values())
    if optional > MOST_OPTIONAL or unions > MOST_UNIONS:
        return f"Schema is too complex: {optional} optional parameters, {unions} parameters with union types"
    return None


def _objects(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every subschema that describes an object, with where it stands."""
    if not isinstance(node, Mapping):
        return
    if node.get("type") == "object" or "properties" in node:
        yield path, node
    for word in ("properties", "$defs", "definitions"):
        for name, part in (node.get(word) or {}).items():
            yield from _objects(part, (*path, word, name))
    yield from _objects(node.get("items"), (*path, "items"))
    for word in ("anyOf", "allOf", "oneOf"):
        for number, part in enumerate(node.get(word) or ()):
            yield from _objects(part, (*path, word, str(number)))
