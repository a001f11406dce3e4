"""Instances made for a schema are valid, whatever pydantic puts into one."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from random import Random
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from overnight.simulator import make_instance
from overnight.simulator.patterns import matching_text
from overnight.simulator.schema_instance import UnusableSchemaError

SEEDS = st.integers(0, 10_000)


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(gt=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: Annotated[list[str], Field(min_length=2, max_length=4)]


class Tree(BaseModel):
    name: str
    parent: "Tree | None"
    children: "list[Tree]"


class Everything(BaseModel):
    mood: Mood
    maybe: int | None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pair: tuple[int, str]
    numbers: dict[str, float]
    share: Annotated[float, Field(gt=0, lt=1)]
    even: Annotated[int, Field(ge=4, le=40, multiple_of=4)]
    below: Annotated[int, Field(lt=-5)]
    above: Annotated[float, Field(ge=1000)]
    word: Annotated[str, Field(min_length=20, max_length=30)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3,5}(x|yz)?$")]
    some: Annotated[set[Mood], Field(min_length=1)]
    when: datetime
    day: date
    at: time
    lasts: timedelta
    who: UUID
    where: IPv4Address
    link: AnyUrl
    price: Decimal
    free: Any
    fixed: Literal[3]
    optional: str = "x"


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("model", [Everything, Tree, Dog])
def test_what_is_made_for_a_model_is_that_model(model: type[BaseModel], seed: int) -> None:
    schema = model.model_json_schema()
    made = make_instance(schema, Random(seed), ["night", "owl"])
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(
        made
    )
    model.model_validate(made)


def bounded(kind: str, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(numbers, numbers).map(lambda p: {"type": kind, "minimum": min(p), "maximum": max(p)})


def sized(low: str, high: str) -> st.SearchStrategy[dict[str, int]]:
    sizes = st.integers(0, 5)
    return st.one_of(
        st.just({}),
        st.tuples(sizes, sizes).map(lambda p: {low: min(p), high: max(p)}),
        sizes.map(lambda n: {low: n}),
        sizes.map(lambda n: {high: n}),
    )


def container(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "b", "c", "a b", "ä"])
    objects = st.dictionaries(names, inner, max_size=4).flatmap(
        lambda properties: st.sets(st.sampled_from([*properties, "extra"])).map(
            lambda required: {"type": "object", "properties": properties, "required": sorted(required)}
        )
    )
    arrays = st.tuples(inner, sized("minItems", "maxItems")).map(lambda p: {"type": "array", "items": p[0], **p[1]})
    choices = st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    maps = st.tuples(inner, st.integers(0, 3)).map(
        lambda p: {"type": "object", "additionalProperties": p[0], "minProperties": p[1]}
    )
    return st.one_of(objects, arrays, choices, maps)


PLAIN = st.one_of(
    st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"type": "string"}, {"type": "integer"}, {"type": "number"}]
    ),
    bounded("integer", st.integers(-1000, 1000)),
    bounded("number", st.floats(-1e6, 1e6)),
    sized("minLength", "maxLength").map(lambda s: {"type": "string", **s}),
    st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.text()), min_size=1).map(lambda v: {"enum": v}),
    st.sampled_from([{"type": ["string", "null"]}, {"const": {"a": [1]}}, {}]),
)
SCHEMAS = st.recursive(PLAIN, container, max_leaves=12)


@given(schema=SCHEMAS, seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_an_instance_is_valid(schema: dict[str, Any], seed: int) -> None:
    jsonschema.Draft202012Validator(schema).validate(make_instance(schema, Random(seed)))


@given(schema=SCHEMAS, seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_the_same_seed_makes_the_same_instance(schema: dict[str, Any], seed: int) -> None:
    assert make_instance(schema, Random(seed)) == make_instance(schema, Random(seed))


@given(
    pattern=st.sampled_from(
        [
            r"^[a-f0-9]{8}$",
            r"^\w+@\w+\.(com|org)$",
            r"^[^x]\s\S\D$",
            r"a|b",
            r"^(?!0)\d+$",
            r"^v\d+\.\d+$",
            r"^.{3,7}$",
            r"[^\d]z",
        ]
    ),
    seed=SEEDS,
)
@settings(max_examples=100, deadline=None)
def test_a_pattern_is_matched(pattern: str, seed: int) -> None:
    jsonschema.validate(matching_text(pattern, Random(seed)), {"pattern": pattern})


def test_strings_are_made_of_the_prompts_words() -> None:
    made = make_instance({"type": "string"}, Random(3), ["owl", "moth"])
    assert set(made.split()) <= {"owl", "moth"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Nowhere"},
        {"$ref": "#"},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
    ],
)
def test_a_schema_without_an_instance_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UnusableSchemaError):
        make_instance(schema, Random(1))


def test_all_of_is_folded_together_and_keywords_beside_a_reference_win() -> None:
    schema = {
        "allOf": [
            {"$ref": "#/$defs/A", "properties": {"n": {"const": 2}}},
            {"properties": {"b": {"const": 1}}, "required": ["b"]},
        ],
        "$defs": {"A": {"type": "object", "properties": {"a": {"const": 0}}, "required": ["a"]}},
    }
    made = make_instance(schema, Random(1))
    assert made["b"] == 1


def test_unions_of_every_kind_are_drawn() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(int | str | list[bool] | None)
    made = [make_instance(adapter.json_schema(), Random(seed)) for seed in range(50)]
    assert {type(one).__name__ for one in made} == {"int", "str", "list", "NoneType"}
