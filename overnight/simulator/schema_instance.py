"""A valid instance of a JSON schema, made from a seed and the words of a prompt.

Covers what pydantic emits: `$defs`/`$ref`, `anyOf`/`oneOf`/`allOf`, `enum`, `const`, nullable types, objects with
optional and additional properties, arrays with `prefixItems`, length and uniqueness limits, numbers with bounds and
`multipleOf`, strings with length, `format` and (best effort) `pattern`. `not`, `if` and `dependent*` are not followed.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from overnight.simulator.patterns import matching_text
from overnight.simulator.string_formats import FORMATS

Schema = Mapping[str, Any]
AnySchema = Schema | bool
"""`True` is the schema of anything."""
DEEP = 4
"""Below this depth optional parts are left out, so that a schema that refers to itself comes to an end."""
BOTTOM = 40
FALLBACK_WORDS = ("night", "batch", "answer", "morning", "line")


class UnusableSchemaError(ValueError):
    """No instance could be made: the schema refers to nothing, or to itself without an end."""


def make_instance(schema: Schema, rng: Random, words: Sequence[str] = ()) -> Any:
    """Raises UnusableSchemaError where there is no instance to be made."""
    try:
        return _Maker(schema, rng, words or FALLBACK_WORDS).make(schema, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, re.error) as error:
        raise UnusableSchemaError(f"The schema is not a valid JSON schema: {error}") from error


class _Maker:
    def __init__(self, root: Schema, rng: Random, words: Sequence[str]) -> None:
        self.root = root
        self.rng = rng
        self.words = words

    def make(self, schema: AnySchema, depth: int) -> Any:
        if depth > BOTTOM:
            raise UnusableSchemaError("The schema refers to itself without an end.")
        if isinstance(schema, bool):
            return self.rng.choice(self.words)
        schema = self.flat(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(list(schema["enum"]))
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {k: v for k, v in schema.items() if k != key}
                return self.make(_merged(rest, self.branch(schema[key], depth)), depth + 1)
        return self.typed(schema, depth)

    def flat(self, schema: Schema) -> Schema:
        """References and `allOf` folded in; keywords beside a reference win."""
        for _ in range(BOTTOM):
            if "$ref" in schema:
                rest = {k: v for k, v in schema.items() if k != "$ref"}
                schema = {**self.resolve(str(schema["$ref"])), **rest}
            elif schema.get("allOf"):
                merged: Schema = {k: v for k, v in schema.items() if k != "allOf"}
                for part in schema["allOf"]:
                    merged = _merged(merged, self.flat(part))
                schema = merged
            else:
                return schema
        raise UnusableSchemaError("The schema refers to itself without an end.")

    def resolve(self, reference: str) -> Schema:
        node: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            node = node if not part else node.get(key) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise UnusableSchemaError(f"The schema refers to {reference}, which is not there.")
        return node

    def branch(self, options: Sequence[Schema], depth: int) -> Schema:
        """A random option; deep down, one that comes to an end soonest.

        "A number or any string" is how pydantic writes a Decimal, and a number is what a model would say.
        """
        if any(option == {"type": "string"} for option in options):
            options = [option for option in options if option.get("type") == "number"] or options
        if depth < DEEP:
            return self.rng.choice(options)
        return min(options, key=lambda option: _weight(self.flat(option)))

    def typed(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type") or _guessed_type(schema)
        if isinstance(kind, list):
            kind = self.rng.choice(kind)
        if kind in {"object", "array"}:
            return self.object(schema, depth) if kind == "object" else self.array(schema, depth)
        plain: dict[str, Callable[[Schema], Any]] = {
            "integer": self.integer,
            "number": self.number,
            "boolean": lambda _: self.rng.random() < 0.5,
            "null": lambda _: None,
        }
        return plain.get(kind, self.string)(schema)

    def object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = set(schema.get("required") or ())
        made = {
            name: self.make(part, depth + 1)
            for name, part in properties.items()
            if name in required or depth < DEEP - 1
        }
        for name in sorted(required - made.keys()):
            made[name] = self.make(self.extra_schema(schema), depth + 1)
        self.fill(made, schema, depth)
        return made

    def extra_schema(self, schema: Schema) -> Any:
        extra = schema.get("additionalProperties", True)
        return extra if isinstance(extra, Mapping) else True

    def fill(self, made: dict[str, Any], schema: Schema, depth: int) -> None:
        """Additional properties: as many as the schema demands, and one where it describes them."""
        described = isinstance(schema.get("additionalProperties"), Mapping) and depth < DEEP
        most = schema.get("maxProperties", math.inf)
        wanted = min(max(schema.get("minProperties", 0), len(made) + int(described)), most)
        names = self.property_names(schema)
        while len(made) < wanted:
            made.setdefault(next(names), self.make(self.extra_schema(schema), depth + 1))

    def property_names(self, schema: Schema) -> Any:
        names = schema.get("propertyNames")
        number = 0
        while True:
            number += 1
            if number > 1000:
                raise UnusableSchemaError("The schema demands more property names than it allows.")
            yield str(self.make(names, 1)) if names else f"{self.rng.choice(self.words)}{number if number > 1 else ''}"

    def array(self, schema: Schema, depth: int) -> list[Any]:
        made = [self.make(part, depth + 1) for part in schema.get("prefixItems") or ()]
        items = schema.get("items", not made)
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        wanted = max(least, len(made)) if depth >= DEEP or items is False else max(least, self.rng.randint(1, 3))
        wanted = wanted if most is None else min(wanted, int(most))
        for _ in range(50 + wanted):
            if len(made) >= wanted or items is False:
                break
            one = self.make(items, depth + 1)
            if not schema.get("uniqueItems") or not _holds(made, one):
                made.append(one)
        return made

    def integer(self, schema: Schema) -> int:
        low, high = _bounds(schema, 1)
        step = int(schema.get("multipleOf") or 1) or 1
        first, last = math.ceil(low / step), math.floor(high / step)
        return self.rng.randint(first, max(first, last)) * step

    def number(self, schema: Schema) -> float:
        low, high = _bounds(schema, 0)
        step = schema.get("multipleOf")
        if step:
            first = math.ceil(low / step)
            return float(self.rng.randint(first, max(first, math.floor(high / step))) * step)
        for digits in (2, 4, 8):
            made = round(self.rng.uniform(low, high), digits)
            if _within(schema, made):
                return made
        return low + (high - low) / 2

    def string(self, schema: Schema) -> str:
        if isinstance(schema.get("pattern"), str):
            return self.patterned(schema)
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]](self.rng)
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(1, 6)))
        while len(text) < least:
            text += " " + self.rng.choice(self.words)
        return text if most is None else text[: int(most)]

    def patterned(self, schema: Schema) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        return matching_text(schema["pattern"], self.rng, least, None if most is None else int(most))


def _guessed_type(schema: Schema) -> str:
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if {"minimum", "maximum", "multipleOf"} & schema.keys() else "string"


def _weight(option: Schema) -> int:
    """How far from an end an option is: null, plain values, empty containers, filled ones, then more choices."""
    if option.get("type") == "null":
        return 0
    if {"anyOf", "oneOf"} & option.keys():
        return 4
    if (option.get("type") or _guessed_type(option)) not in ("object", "array"):
        return 1
    return 3 if option.get("required") or option.get("minItems") else 2


def _merged(one: Schema, other: AnySchema) -> Schema:
    if isinstance(other, bool):
        return one
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _bounds(schema: Schema, gap: int) -> tuple[float, float]:
    """Closed bounds; `gap` is the least distance from an exclusive one. Draft 4 booleans are not numbers."""
    low = [float(schema["minimum"])] if "minimum" in schema else []
    high = [float(schema["maximum"])] if "maximum" in schema else []
    if "exclusiveMinimum" in schema and not isinstance(schema["exclusiveMinimum"], bool):
        low.append(math.floor(schema["exclusiveMinimum"]) + 1 if gap else schema["exclusiveMinimum"])
    if "exclusiveMaximum" in schema and not isinstance(schema["exclusiveMaximum"], bool):
        high.append(math.ceil(schema["exclusiveMaximum"]) - 1 if gap else schema["exclusiveMaximum"])
    if low:
        return max(low), min(high, default=max(low) + 100)
    return min(0.0, *high) if high and min(high) < 0 else 0.0 if not high else min(0.0, min(high) - 100), min(
        high, default=100.0
    )


def _within(schema: Schema, made: float) -> bool:
    over: bool = made > schema.get("exclusiveMinimum", -math.inf) and made >= schema.get("minimum", -math.inf)
    under: bool = made < schema.get("exclusiveMaximum", math.inf) and made <= schema.get("maximum", math.inf)
    return over and under


def _holds(made: Sequence[Any], one: Any) -> bool:
    """JSON equality: `True` is not `1`."""
    text = json.dumps(one, sort_keys=True)
    return any(json.dumps(other, sort_keys=True) == text for other in made)
