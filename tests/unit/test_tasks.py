from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field

from overnight.content import Message
from overnight.errors import RequestError, ResponseError, UnknownTaskError
from overnight.providers.base import Response
from overnight.tasks import Task, tasks

T = TypeVar("T")
SurrogateText = st.text(st.characters(codec=None), max_size=40)
EncodableText = st.text(st.characters(codec="utf-8"), max_size=40)


class Sentiment(BaseModel):
    label: Literal["good", "bad"]
    confidence: float = Field(ge=0, le=1)


class Aliased(BaseModel):
    class_: str = Field(alias="class")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.class_.upper()


class AskPlainly(Task[str]):
    text: str

    def prompt(self) -> str:
        return self.text


class Judge(AskPlainly, Task[Sentiment], name="judge"):
    """Two bases: the nearest Task[...] says the output."""


class Classify(Task[Sentiment], name="classify-1"):
    system = "Be strict."
    max_tokens = 50
    temperature = 0.5
    reasoning_effort = "low"
    text: str

    def prompt(self) -> Sequence[Message]:
        return [Message(role="user", content=self.text), Message(role="assistant", content="{")]


class EmbedText(Task[list[float]]):
    text: str


class Choose(Task[Literal["yes", "no"]]):
    pass


class Either(Task[Sentiment | int]):
    pass


class WithAlias(Task[Aliased]):
    pass


class Number(Task[float]):
    pass


class Listing(Task[list[T]], Generic[T]):
    pass


class Numbers(Listing[int]):
    pass


class Wrapped(Task[T], Generic[T]):
    pass


class WrappedTwice(Wrapped[T], Generic[T]):
    pass


class WrappedSentiment(WrappedTwice[Sentiment]):
    pass


class Untyped(Task):  # type: ignore[type-arg]
    def prompt(self) -> str:
        return "?"


class Silent(Task[str]):
    pass


def answer(text: str) -> Response:
    return Response(text=text, finish_reason="stop")


# Names.


def test_a_task_is_registered_under_its_class_name_or_the_one_it_is_given() -> None:
    assert tasks.resolve("AskPlainly") is AskPlainly
    assert tasks.resolve("classify-1") is Classify
    assert tasks.name_of(Classify) == "classify-1"


def test_a_generic_base_is_no_task_and_what_fills_it_is() -> None:
    assert not {"Listing", "Wrapped", "WrappedTwice", "Listing[int]", "Task"} & set(tasks.known())
    assert tasks.resolve("Numbers") is Numbers
    with pytest.raises(UnknownTaskError, match="Only concrete subclasses"):
        tasks.name_of(Wrapped)


# What is asked.


def test_a_prompt_of_text_is_one_user_message() -> None:
    prompt = AskPlainly(text="hello").render()
    assert prompt.messages == [Message(role="user", content="hello")]
    assert (prompt.system, prompt.max_tokens, prompt.temperature, prompt.reasoning_effort) == (None,) * 4
    assert prompt.output_schema is None
    assert prompt.output_name == "AskPlainly"


def test_a_prompt_can_be_a_conversation_and_settings_travel_with_it() -> None:
    prompt = Classify(text="hello").render()
    assert [message.role for message in prompt.messages] == ["user", "assistant"]
    assert (prompt.system, prompt.max_tokens, prompt.temperature) == ("Be strict.", 50, 0.5)
    assert (prompt.reasoning_effort, prompt.output_name) == ("low", "classify-1")
    assert prompt.output_schema is not None
    assert set(prompt.output_schema["properties"]) == {"label", "confidence"}


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_prompt_is_refused_without_quoting_the_task(text: str) -> None:
    with pytest.raises(RequestError, match="empty prompt") as caught:
        AskPlainly(text=text).render()
    assert "text=" not in str(caught.value)


def test_a_task_without_a_prompt_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match=r"Silent has no prompt\(\)"):
        Silent().render()


def test_a_task_without_an_output_type_says_what_to_derive_from() -> None:
    with pytest.raises(UnknownTaskError, match=r"'Untyped'.*Task\[...\]"):
        Untyped().render()


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError):
        AskPlainly(text="a", txet="b")  # type: ignore[call-arg]


# What is answered.


@pytest.mark.parametrize(
    ("task", "text", "output"),
    [
        (AskPlainly(text="q"), " as it is\n", " as it is\n"),
        (AskPlainly(text="q"), "```json\n{}\n```", "```json\n{}\n```"),
        (Classify(text="q"), '{"label":"good","confidence":1}', Sentiment(label="good", confidence=1)),
        (Classify(text="q"), '```json\n{"label":"bad","confidence":0}\n```', Sentiment(label="bad", confidence=0)),
        (Classify(text="q"), '\n ```\n{"label":"bad","confidence":0}```  ', Sentiment(label="bad", confidence=0)),
        (Judge(text="q"), '{"label":"bad","confidence":0}', Sentiment(label="bad", confidence=0)),
        (Choose(), '"yes"', "yes"),
        (Either(), "7", 7),
        (Either(), '{"label":"good","confidence":1}', Sentiment(label="good", confidence=1)),
        (WithAlias(), '{"class":"a"}', Aliased.model_validate({"class": "a"})),
        (Numbers(), "[1, 2]", [1, 2]),
        (WrappedSentiment(), '{"label":"good","confidence":1}', Sentiment(label="good", confidence=1)),
    ],
)
def test_an_answer_becomes_the_output_type(task: Task[Any], text: str, output: Any) -> None:
    assert task.read(answer(text)) == output


def test_an_embedding_becomes_a_list_of_numbers() -> None:
    assert EmbedText(text="q").read(Response(embedding=(0.5, -1.0))) == [0.5, -1.0]


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (Response(refusal="no"), "refused"),
        (Response(refusal=""), "refused"),
        (Response(text='{"label":', truncated=True, finish_reason="length"), "truncated"),
        (Response(text=""), "blank"),
        (Response(text=" \n\u2003"), "blank"),
        (Response(text="I think it is good."), "invalid_output"),
        (Response(text='{"label":"ugly","confidence":1}'), "invalid_output"),
        (Response(text='{"label":"good","confidence":1'), "invalid_output"),
        (Response(text="[" * 5000), "invalid_output"),
        (Response(text='{"label":"good","confidence":"\ud800"}'), "invalid_output"),
        (Response(embedding=[0.1]), "invalid_output"),
    ],
)
def test_an_answer_that_cannot_be_an_output_says_why(response: Response, code: str) -> None:
    with pytest.raises(ResponseError) as caught:
        Classify(text="q").read(response)
    assert caught.value.code == code


def test_why_an_answer_does_not_fit_names_fields_and_not_the_models_words() -> None:
    with pytest.raises(ResponseError) as caught:
        Classify(text="q").read(answer('{"label":"hush-hush","confidence":7,"more":"hush-hush"}'))
    assert "label" in str(caught.value)
    assert "confidence" in str(caught.value)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("text", ['["1"]', "[1.5]", '["x"]'])
def test_the_output_type_of_a_generic_base_is_enforced(text: str) -> None:
    with pytest.raises(ResponseError):
        Numbers().read(answer(text.replace('"1"', "null")))


# Stored and read again.


@given(SurrogateText)
def test_a_text_is_stored_and_read_again_or_refused(text: str) -> None:
    try:
        stored = AskPlainly.dump_output(text)
    except ResponseError:
        with pytest.raises(UnicodeEncodeError):
            text.encode()
    else:
        assert AskPlainly.load_output(stored) == text


@pytest.mark.parametrize(
    "text", ["\x00", "\u2028\u2029\x85", "\N{GRINNING FACE}", "\\u0000", '"', "\x1f\x7f", "\ufeff"]
)
def test_odd_characters_survive_being_stored(text: str) -> None:
    assert AskPlainly.load_output(AskPlainly.dump_output(text)) == text
    assert AskPlainly.load_fields(AskPlainly(text=text).dump_fields()) == AskPlainly(text=text)


def test_an_output_with_aliases_and_computed_fields_is_read_again() -> None:
    output = Aliased.model_validate({"class": "a"})
    assert WithAlias.load_output(WithAlias.dump_output(output)) == output


@pytest.mark.parametrize("output", [float("nan"), float("inf"), "a text", None, object()])
def test_an_output_that_would_not_read_back_is_refused_when_it_is_stored(output: Any) -> None:
    with pytest.raises(ResponseError) as caught:
        Number.dump_output(output)
    assert caught.value.code == "invalid_output"


def test_the_text_of_a_wrong_output_stays_out_of_the_error_and_of_warnings() -> None:
    with pytest.raises(ResponseError) as caught:
        Classify.dump_output("hush-hush")  # type: ignore[arg-type]
    assert "hush-hush" not in str(caught.value)


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    when: date
    tags: frozenset[str] = frozenset()


class Everything(Task[str]):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    raw: bytes
    at: datetime
    lasts: timedelta
    money: Decimal
    inner: Inner
    key: UUID
    colour: Colour
    pair: tuple[int, str]
    by_number: dict[int, Inner]
    maybe: str | None = None
    from_: str = Field(default="x", alias="from")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.raw)


def test_fields_of_every_kind_are_stored_and_read_again() -> None:
    task = Everything.model_validate(
        {
            "raw": bytes(range(256)),
            "at": datetime(2026, 11, 22, 6, 0, 0, 123456, tzinfo=UTC),
            "lasts": timedelta(days=-1, microseconds=5),
            "money": Decimal("1.10"),
            "inner": Inner(when=date(2026, 1, 1), tags=frozenset({"a", "b"})),
            "key": UUID(int=7),
            "colour": Colour.RED,
            "pair": (1, "\x00"),
            "by_number": {3: Inner(when=date(1999, 12, 31))},
            "from": "\u2028",
        }
    )
    again = Everything.load_fields(task.dump_fields())
    assert again == task
    assert str(again.money) == "1.10"


@given(EncodableText, st.binary(max_size=20), st.datetimes(timezones=st.just(UTC)))
def test_any_fields_are_read_again_as_they_were(text: str, raw: bytes, at: datetime) -> None:
    inner = Inner(when=at.date(), tags=frozenset({text}))
    fields = {"raw": raw, "at": at, "lasts": timedelta(1), "money": Decimal(1), "inner": inner, "key": UUID(int=1)}
    task = Everything.model_validate(fields | {"colour": "red", "pair": (1, text), "by_number": {}, "from": text})
    assert Everything.load_fields(task.dump_fields()) == task


class Plain(Task[str]):
    raw: bytes = b""
    number: float = 0
    hidden: str = Field(default="", exclude=True)


class Hidden(Task[str]):
    hidden: str = Field(exclude=True)


@pytest.mark.parametrize(
    "task", [Plain(raw=b"\xff"), Plain(number=float("nan")), Hidden(hidden="hush-hush"), AskPlainly(text="\ud800")]
)
def test_fields_that_would_not_read_back_are_refused_before_anything_is_paid(task: Task[str]) -> None:
    with pytest.raises(RequestError, match="stored as JSON") as caught:
        task.dump_fields()
    assert "hush-hush" not in str(caught.value)
