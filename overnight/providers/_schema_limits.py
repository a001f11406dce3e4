"""How large a schema may be. Sources: the providers' guides on structured outputs, as of November 2026."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overnight.errors import RequestError

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SizeLimits:
    """What one provider takes in one request; None is without a limit.

    Attributes:
        depth: levels of objects.
        properties: of all objects together.
        enum_values: of all enums together.
        name_characters: of property names, definition names and enum values together.
        long_enum: an enum of strings with more values than this has at most `long_enum_characters` in them.
        optional: properties that may be left out, of all schemas of the request together.
        unions: properties of more than one type, of all schemas of the request together.
    """

    depth: int | None = None
    properties: int | None = None
    enum_values: int | None = None
    name_characters: int | None = None
    long_enum: int | None = None
    long_enum_characters: int = 0
    optional: int | None = None
    unions: int | None = None


def check_sizes(schema: Schema, limits: SizeLimits, provider: str, where: str) -> None:
    """Refuse a schema that is too large by itself.

    Raises:
        RequestError: with what there is too much of.
    """
    definitions: Schema = schema.get("$defs", {})
    nodes = list(_nodes(schema))
    enums = [node["enum"] for node in nodes if "enum" in node]
    _check(where, provider, "levels of objects", _depth(schema, definitions, ()), limits.depth)
    _check(where, provider, "properties", sum(len(node.get("properties", ())) for node in nodes), limits.properties)
    _check(where, provider, "enum values", sum(map(len, enums)), limits.enum_values)
    names = [name for node in nodes for name in node.get("properties", ())]
    texts = [value for values in enums for value in values if isinstance(value, str)]
    characters = sum(map(len, [*names, *definitions, *texts]))
    _check(where, provider, "characters in names and enum values", characters, limits.name_characters)
    for values in enums:
        _check_long_enum(values, limits, provider, where)


def _check_long_enum(values: Sequence[Any], limits: SizeLimits, provider: str, where: str) -> None:
    if limits.long_enum is not None and len(values) > limits.long_enum:
        characters = sum(len(value) for value in values if isinstance(value, str))
        what = f"characters in an enum of more than {limits.long_enum} values"
        _check(where, provider, what, characters, limits.long_enum_characters)


def check_together(schemas: Mapping[str, Schema], limits: SizeLimits, provider: str) -> None:
    """Refuse schemas that are too much for one request together: that of the output, and those of the tools.

    Raises:
        RequestError: with what there is too much of, and where the most of it is.
    """
    for what, limit, find in (("optional properties", limits.optional, _optional), ("unions", limits.unions, _unions)):
        found = {where: [name for node in _nodes(schema) for name in find(node)] for where, schema in schemas.items()}
        total = sum(map(len, found.values()))
        if limit is not None and total > limit:
            where = max(found, key=lambda place: len(found[place]))
            raise RequestError(
                f"{where}: {provider} takes at most {limit} {what} in one request, and there are {total}, among them "
                f"{', '.join(found[where][:3])}. Make some required, or of one type."
            )


def _check(where: str, provider: str, what: str, number: int, limit: int | None) -> None:
    if limit is not None and number > limit:
        raise RequestError(f"{where}: {provider} takes at most {limit} {what}, and there are {number}.")


def _nodes(schema: Any) -> Iterator[Schema]:
    """Every schema in a schema, definitions included; what they refer to is not followed."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for keyword in ("properties", "$defs"):
        for part in schema.get(keyword, {}).values():
            yield from _nodes(part)
    for part in (schema.get("items"), *schema.get("anyOf", ())):
        yield from _nodes(part)


def _optional(node: Schema) -> list[str]:
    return [name for name in node.get("properties", ()) if name not in node.get("required", ())]


def _unions(node: Schema) -> list[str]:
    properties: Schema = node.get("properties", {})
    return [name for name, part in properties.items() if "anyOf" in part or isinstance(part.get("type"), list)]


def _depth(schema: Any, definitions: Schema, inside: tuple[str, ...]) -> int:
    """Levels of objects, through references; a recursive one counts once."""
    if not isinstance(schema, Mapping):
        return 0
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return 0 if name in inside else _depth(definitions[name], definitions, (*inside, name))
    members = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items")]
    return ("properties" in schema) + max((_depth(member, definitions, inside) for member in members), default=0)
