import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema
import pytest
from pydantic import BaseModel, Field

from overnight.content import Message
from overnight.errors import RequestError
from overnight.providers._anthropic_facts import AnthropicFacts
from overnight.providers._schema import anthropic_schema, openai_schema
from overnight.providers.base import Prompt, ToolSpec

Translate = Callable[[dict[str, Any]], dict[str, Any]]
both = pytest.mark.parametrize("translate", [openai_schema, anthropic_schema])


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    zip: Annotated[str, Field(pattern=r"^\d{5}$", max_length=5)]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Person(BaseModel):
    name: str
    age: Annotated[int, Field(ge=0, le=150, description="In years.")]
    color: Color = Color.RED
    home: Address
    work: Annotated[Address, Field(description="The office.")]
    former: list[Address] = Field(default_factory=list, max_length=3)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    nickname: str | None = None
    born: dt.date | None
    seen: dt.datetime
    ident: UUID
    score: Decimal
    words: Annotated[set[str], Field(min_length=2)]
    default: Literal["a", "b", 3] = "a"
    maximum: float = Field(default=1.0, examples=[1.5])


PERSON = Person.model_validate(
    {
        "name": "n",
        "age": 3,
        "home": {"street": "s", "zip": "12345"},
        "work": {"street": "s", "zip": "12345"},
        "pet": {"kind": "cat"},
        "born": None,
        "seen": "2026-11-21T00:00:00Z",
        "ident": "00000000-0000-0000-0000-000000000001",
        "score": 1,
        "words": ["a", "b"],
    }
)


def every_part(schema: Any) -> list[dict[str, Any]]:
    """Every schema inside a schema; property names are not keywords."""
    if not isinstance(schema, dict):
        return []
    parts = [schema]
    for keyword in ("properties", "$defs"):
        parts += [part for member in schema.get(keyword, {}).values() for part in every_part(member)]
    parts += [part for member in schema.get("anyOf", []) for part in every_part(member)]
    return parts + every_part(schema.get("items"))


@both
def test_what_pydantic_writes_becomes_a_valid_schema_that_its_own_values_fit(translate: Translate) -> None:
    schema = translate(Person.model_json_schema(mode="serialization"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(PERSON.model_dump(mode="json"), schema)
    for part in every_part(schema):
        assert part.get("type") != "object" or part["additionalProperties"] is False
        assert "$ref" not in part or list(part) == ["$ref"]
        assert not part.keys() & {"oneOf", "allOf", "const", "default", "discriminator", "uniqueItems", "maxLength"}


def test_openai_wants_every_property() -> None:
    schema = openai_schema(Person.model_json_schema())
    for part in every_part(schema):
        assert part.get("type") != "object" or part["required"] == list(part["properties"])


def test_anthropic_leaves_the_optional_optional() -> None:
    schema = anthropic_schema(Person.model_json_schema())
    assert {"nickname", "color", "default"}.isdisjoint(schema["required"])
    assert {"name", "age"} <= set(schema["required"])


def test_bounds_stay_at_openai_and_move_into_the_description_at_anthropic() -> None:
    source = Person.model_json_schema()
    kept = openai_schema(source)["properties"]["age"]
    told = anthropic_schema(source)["properties"]["age"]
    assert (kept["minimum"], kept["maximum"], kept["description"]) == (0, 150, "In years.")
    assert "minimum" not in told
    assert told["description"] == "In years.\n\n(minimum: 0, maximum: 150)"


def test_a_default_is_told_and_null_is_not_worth_telling() -> None:
    properties = openai_schema(Person.model_json_schema())["properties"]
    assert properties["maximum"]["description"] == "(default: 1.0, examples: [1.5])"
    assert "description" not in properties["nickname"]


def test_a_description_beside_a_reference_is_kept() -> None:
    properties = openai_schema(Person.model_json_schema())["properties"]
    assert properties["home"] == {"$ref": "#/$defs/Address"}
    assert properties["work"]["description"] == "The office."
    assert properties["work"]["required"] == ["street", "zip"]


def test_anthropic_counts_to_one() -> None:
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 9}
    assert anthropic_schema(schema) == {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "(minItems: 2, maxItems: 9)",
    }
    assert anthropic_schema(schema | {"minItems": 1})["minItems"] == 1


@both
def test_data_that_looks_like_keywords_is_left_alone(translate: Translate) -> None:
    class Odd(BaseModel):
        contains: Literal["minimum"]
        pattern: str

    schema = translate(Odd.model_json_schema())
    assert schema["properties"]["contains"]["enum"] == ["minimum"]
    assert set(schema["properties"]) == {"contains", "pattern"}


@both
def test_the_given_schema_is_not_changed(translate: Translate) -> None:
    given = Person.model_json_schema()
    translate(given)
    assert given == Person.model_json_schema()


def test_a_model_that_contains_itself_is_for_openai_only() -> None:
    schema = openai_schema(Node.model_json_schema())
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    jsonschema.validate({"name": "a", "children": [{"name": "b", "children": []}]}, schema)
    with pytest.raises(RequestError, match=r"children.*'Node' inside itself"):
        anthropic_schema(Node.model_json_schema())


class Deep(BaseModel):
    free: dict[str, int]


def nested(levels: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": nested(levels - 1) if levels > 1 else {"type": "string"}}}


def in_object(member: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"list": {"type": "array", "items": member}}}


@both
@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (in_object({}), r"the schema\.list\[\]: .* any type"),
        (in_object(True), r"the schema\.list\[\]"),
        (in_object({"type": "array"}), "say what it holds"),
        (in_object({"type": "array", "items": {"type": "string"}, "contains": {}}), "`contains`"),
        (in_object({"type": "array", "prefixItems": []}), "`prefixItems`"),
        (in_object({"type": "object"}), "free keys"),
        (in_object({"not": {}}), "`not`"),
        (in_object({"allOf": [{"type": "string"}, {"type": "string"}]}), "`allOf`"),
        (in_object({"enum": []}), "`enum`"),
        (in_object({"enum": [{}]}), "`enum`"),
        (in_object({"$ref": "#/$defs/Nowhere"}), "leads nowhere"),
        (in_object({"$ref": "https://example.com/x"}), "leads nowhere"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "itself"),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, "free keys"),
        (Deep.model_json_schema(), r"the schema\.free: .*free keys"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_place(translate: Translate, schema: Any, text: str) -> None:
    with pytest.raises(RequestError, match=f"^output_schema: .*{text}"):
        translate(schema)


def test_openai_takes_objects_only_and_ten_levels_of_them() -> None:
    assert openai_schema(nested(10))
    with pytest.raises(RequestError, match="at most 10 levels of objects, and there are 11"):
        openai_schema(nested(11))
    for schema in ({"type": "string"}, {"anyOf": [{"type": "string"}]}):
        with pytest.raises(RequestError, match="object only"):
            openai_schema(schema)


def test_an_empty_model_is_an_object_without_properties() -> None:
    class Empty(BaseModel):
        pass

    assert openai_schema(Empty.model_json_schema())["properties"] == {}


def test_one_member_of_all_of_is_that_member() -> None:
    member = {"allOf": [{"type": "string"}], "description": "d"}
    assert openai_schema(in_object(member))["properties"]["list"]["items"] == {"type": "string", "description": "d"}


def wide(properties: int, **member: Any) -> dict[str, Any]:
    names = [f"p{n}" for n in range(properties)]
    kinds = {name: {"type": "string", **member} for name in names}
    return {"type": "object", "properties": kinds, "required": names}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (wide(5_001), "5000 properties, and there are 5001"),
        (wide(1, enum=[f"{n}" for n in range(1_001)]), "1000 enum values, and there are 1001"),
        (wide(1, enum=["x" * 60 + f"{n}" for n in range(251)]), "15000 characters in an enum of more than 250 values"),
        (wide(3, enum=["x" * 40_000]), "120000 characters in names and enum values"),
    ],
)
def test_openai_takes_no_larger_schema_than_it_says(schema: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        openai_schema(schema)


def test_openai_takes_a_schema_that_is_as_large_as_it_says() -> None:
    assert openai_schema(wide(5_000))
    assert openai_schema(wide(1, enum=[f"{n:015}" for n in range(250)]))


def asked(schema: dict[str, Any], *tools: dict[str, Any]) -> Prompt:
    specs = [ToolSpec(name=f"t{n}", description=None, schema=tool) for n, tool in enumerate(tools)]
    return Prompt(messages=[Message(role="user", content="?")], output_schema=schema, tools=specs)


@pytest.mark.parametrize(
    ("schema", "tool", "text"),
    [
        (wide(25) | {"required": []}, wide(1), "output_schema: .*at most 24 optional properties.*25, among them p0"),
        (wide(10) | {"required": []}, wide(15) | {"required": []}, "tools.t0: .*there are 25"),
        (wide(1), {**wide(17, type=["string", "null"])}, "tools.t0: .*at most 16 unions"),
    ],
)
def test_anthropic_counts_over_all_schemas_of_a_request(schema: Any, tool: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        AnthropicFacts().render(asked(schema, tool), model="m", endpoint="/v1/messages")


def test_anthropic_takes_as_many_as_it_says() -> None:
    prompt = asked(wide(24) | {"required": []}, wide(16, type=["string", "null"]))
    assert AnthropicFacts().render(prompt, model="m", endpoint="/v1/messages")
