"""JSON Schema as pydantic writes it -> the subset that each provider's constrained decoding takes.

What a provider would ignore or refuse, and a model can still obey (bounds, lengths, defaults), moves into the
description, where the model reads it. What changes the shape of the answer and cannot be said is refused here, by
name: the providers check schemas only when the batch runs, entry by entry, a day later.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overnight.errors import RequestError
from overnight.providers._schema_limits import SizeLimits, check_sizes

Schema = dict[str, Any]

SHAPE_REFUSED = frozenset(
    {
        "contains",
        "not",
        "if",
        "then",
        "else",
        "prefixItems",
        "additionalItems",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "patternProperties",
        "$dynamicRef",
        "$recursiveRef",
    }
)
BOUNDS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "format",
    "default",
    "examples",
)
"""What is kept where the dialect knows it, and told in the description where it does not."""

ROOT = "the schema"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One provider's subset.

    Attributes:
        kept: those of BOUNDS that stay keywords.
        formats: string formats that stay.
        all_required: whether an optional property has to be made a required one.
        recursive: whether a definition may contain itself.
        object_root: whether the whole answer must be an object.
        limits: how large it may be.
        max_min_items: the highest `minItems`.
    """

    provider: str
    kept: frozenset[str]
    formats: frozenset[str]
    all_required: bool
    recursive: bool
    object_root: bool
    limits: SizeLimits
    max_min_items: int | None


COMMON_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

OPENAI = Dialect(
    provider="OpenAI",
    kept=frozenset(BOUNDS[:5]) | {"minItems", "maxItems", "pattern", "format"},
    formats=COMMON_FORMATS,
    all_required=True,
    recursive=True,
    object_root=True,
    limits=SizeLimits(
        depth=10,
        properties=5_000,
        enum_values=1_000,
        name_characters=120_000,
        long_enum=250,
        long_enum_characters=15_000,
    ),
    max_min_items=None,
)
ANTHROPIC = Dialect(
    provider="Anthropic",
    kept=frozenset({"minItems", "format"}),
    formats=COMMON_FORMATS | {"uri"},
    all_required=False,
    recursive=False,
    object_root=False,
    limits=SizeLimits(optional=24, unions=16),
    max_min_items=1,
)


OUTPUT = "output_schema"


def openai_schema(schema: Mapping[str, Any], where: str = OUTPUT) -> Schema:
    """A schema for `strict: true`: objects closed, every property required, a default only in the description.

    Args:
        schema: as pydantic writes it.
        where: what errors call it.

    Raises:
        RequestError: with the place in the schema that cannot be said.
    """
    return _translated(schema, OPENAI, where)


def anthropic_schema(schema: Mapping[str, Any], where: str = OUTPUT) -> Schema:
    """A schema for `output_config.format` and strict tools: objects closed, no recursion, bounds only in the
    description.

    Args:
        schema: as pydantic writes it.
        where: what errors call it.

    Raises:
        RequestError: with the place in the schema that cannot be said.
    """
    return _translated(schema, ANTHROPIC, where)


def _translated(schema: Mapping[str, Any], dialect: Dialect, where: str) -> Schema:
    definitions = {**_object(schema.get("definitions")), **_object(schema.get("$defs"))}
    translation = _Translation(dialect, definitions, where)
    written = translation.write(translation.resolved_root(schema), ROOT)
    if dialect.object_root and written.get("type") != "object":
        raise RequestError(f"{where}: {ROOT}: {dialect.provider} takes an object only; wrap it in a model.")
    if translation.written:
        written["$defs"] = translation.written
    check_sizes(written, dialect.limits, dialect.provider, f"{where}: {ROOT}")
    return written


class _Translation:
    """One schema on its way; definitions are written when something refers to them."""

    def __init__(self, dialect: Dialect, definitions: Schema, where: str) -> None:
        self._dialect, self._where = dialect, where
        self._definitions = definitions
        self._open: list[str] = []
        self.written: Schema = {}

    def resolved_root(self, schema: Mapping[str, Any]) -> Schema:
        """A recursive model is written as a reference from the root, and no provider takes one there."""
        root, seen = dict(schema), set[str]()
        while "$ref" in root:
            name = self._name(root.pop("$ref"), ROOT)
            if name in seen:
                raise self._refusal(ROOT, "a reference to itself")
            seen.add(name)
            root = {**self._definitions[name], **root}
        return root

    def write(self, schema: Any, path: str) -> Schema:
        if not isinstance(schema, dict):
            raise self._refusal(path, "a schema that allows anything or nothing")
        if "$ref" in schema:
            return self._reference(schema, path)
        if "allOf" in schema:
            return self._single(schema, path)
        if refused := sorted(SHAPE_REFUSED & schema.keys()):
            raise self._refusal(path, f"`{refused[0]}`")
        out: Schema = {key: schema[key] for key in ("title", "type") if key in schema}
        out |= self._values(schema, path) | self._union(schema, path)
        out |= self._object(schema, path) | self._array(schema, path)
        if not out.keys() & {"type", "enum", "anyOf"}:
            raise self._refusal(path, "a value of any type; say what it is")
        return self._with_bounds(schema, out)

    def _reference(self, schema: Schema, path: str) -> Schema:
        """A reference stands alone at OpenAI; what stands beside it is merged into a copy of what it refers to."""
        name = self._name(schema["$ref"], path)
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        if name in self._open and not self._dialect.recursive:
            raise self._refusal(path, f"the model {name!r} inside itself")
        if beside and name not in self._open:
            return self._opened(name, {**_object(self._definitions[name]), **beside}, path)
        if name not in self.written:
            self.written[name] = {}  # claimed before it is written, so that a recursive one is written once
            self.written[name] = self._opened(name, self._definitions[name], f"$defs.{name}")
        return {"$ref": f"#/$defs/{name}"}

    def _opened(self, name: str, schema: Any, path: str) -> Schema:
        self._open.append(name)
        try:
            return self.write(schema, path)
        finally:
            self._open.pop()

    def _name(self, reference: Any, path: str) -> str:
        text = str(reference)
        name = text.removeprefix("#/$defs/").removeprefix("#/definitions/")
        if name == text or name not in self._definitions:
            raise self._refusal(path, f"the reference {text!r}, which leads nowhere in this schema")
        return name

    def _single(self, schema: Schema, path: str) -> Schema:
        """`allOf` with one member is how older tools write a reference with a description."""
        members = schema["allOf"]
        if not isinstance(members, list) or len(members) != 1 or not isinstance(members[0], dict):
            raise self._refusal(path, "`allOf` of several schemas")
        return self.write({**members[0], **{key: value for key, value in schema.items() if key != "allOf"}}, path)

    def _values(self, schema: Schema, path: str) -> Schema:
        if "const" in schema:
            return {"enum": [schema["const"]]}
        if "enum" not in schema:
            return {}
        if not schema["enum"] or any(isinstance(value, dict | list) for value in schema["enum"]):
            raise self._refusal(path, "an `enum` that is empty or holds more than plain values")
        return {"enum": schema["enum"]}

    def _union(self, schema: Schema, path: str) -> Schema:
        """`oneOf` is what pydantic writes for unions with a discriminator; the members exclude each other anyway."""
        for keyword in ("anyOf", "oneOf"):
            if members := schema.get(keyword):
                return {"anyOf": [self.write(member, f"{path}.{keyword}[{i}]") for i, member in enumerate(members)]}
        return {}

    def _object(self, schema: Schema, path: str) -> Schema:
        if "object" not in _types(schema) and "properties" not in schema:
            return {}
        properties = schema.get("properties") or {}
        if not properties and ("properties" not in schema or schema.get("additionalProperties")):
            raise self._refusal(path, "an object with free keys; use a list of objects with a key and a value")
        return {
            "type": schema.get("type", "object"),
            "properties": {name: self.write(member, f"{path}.{name}") for name, member in properties.items()},
            "required": list(properties) if self._dialect.all_required else _required(schema, properties),
            "additionalProperties": False,
        }

    def _array(self, schema: Schema, path: str) -> Schema:
        if "array" not in _types(schema) and "items" not in schema:
            return {}
        if "items" not in schema:
            raise self._refusal(path, "a list of anything; say what it holds")
        return {"type": schema.get("type", "array"), "items": self.write(schema["items"], f"{path}[]")}

    def _with_bounds(self, schema: Schema, out: Schema) -> Schema:
        told = {}
        for keyword in BOUNDS:
            if keyword not in schema:
                continue
            if self._keeps(keyword, schema[keyword]):
                out[keyword] = schema[keyword]
            elif schema[keyword] is not None:
                told[keyword] = schema[keyword]
        if "minItems" in told and self._dialect.max_min_items is not None:
            out["minItems"] = self._dialect.max_min_items
        description = _description(schema.get("description"), told)
        return out | ({"description": description} if description else {})

    def _keeps(self, keyword: str, value: Any) -> bool:
        if keyword not in self._dialect.kept:
            return False
        if keyword == "format":
            return value in self._dialect.formats
        if keyword == "pattern":
            return "(?" not in value  # no provider's decoder looks ahead or behind; pydantic's Decimal does
        limit = self._dialect.max_min_items
        return keyword != "minItems" or limit is None or value <= limit

    def _refusal(self, path: str, what: str) -> RequestError:
        return RequestError(f"{self._where}: {path}: {self._dialect.provider} cannot be asked for {what}.")


def _object(value: Any) -> Schema:
    return value if isinstance(value, dict) else {}


def _types(schema: Schema) -> Sequence[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _required(schema: Schema, properties: Schema) -> list[str]:
    return [name for name in schema.get("required", []) if name in properties]


def _description(said: Any, told: Schema) -> str:
    """The author's words, then the bounds that lost their keyword."""
    bounds = ", ".join(f"{keyword}: {json.dumps(value, ensure_ascii=False)}" for keyword, value in told.items())
    return "\n\n".join(part for part in (str(said or ""), f"({bounds})" if bounds else "") if part)
