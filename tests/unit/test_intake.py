import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import CustomIdError, RequestError, UnknownModelError, UnknownTaskError
from overnight.intake import Intake, RawRequest, check_model, choose_endpoint, iterate, room
from overnight.providers import provider_facts
from overnight.tasks import Task

OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")


class Echo(Task[str], name="intake test: écho"):
    text: str

    def prompt(self) -> str:
        return self.text


class VeryLong(Task[str], name="n" * 300):
    def prompt(self) -> str:
        return "?"


@pytest.fixture
def intake() -> Intake:
    return Intake(OPENAI, model="gpt-4o-mini", endpoint="/v1/chat/completions")


def body(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]} | more


def test_a_task_becomes_an_entry_that_is_ready_to_be_sent(intake: Intake) -> None:
    entry = intake.entry(Echo(text="hello"), "a-1")
    assert json.loads(entry.request)["messages"] == [{"role": "user", "content": "hello"}]
    assert (entry.custom_id, entry.task) == ("a-1", "intake test: écho")
    assert json.loads(entry.fields or "") == {"text": "hello"}


def test_a_raw_request_becomes_an_entry_without_a_task(intake: Intake) -> None:
    entry = intake.entry(RawRequest(body=body(seed=1, at=datetime(2026, 1, 1, tzinfo=UTC))))
    assert json.loads(entry.request) == body(seed=1, at="2026-01-01T00:00:00Z")
    assert (entry.custom_id, entry.task, entry.fields, entry.label) == (None, None, None, "request")


@pytest.mark.parametrize("facts", [OPENAI, ANTHROPIC], ids=lambda facts: facts.name)
@pytest.mark.parametrize("task", [Echo(text="x"), VeryLong()], ids=["odd name", "long name"])
def test_a_default_custom_id_fits_every_provider_up_to_the_last_entry(facts: Any, task: Task[str]) -> None:
    label = Intake(facts, model="claude-haiku-4-5", endpoint=facts.endpoints[0]).entry(task).label
    largest = f"{label}-{facts.limits.max_entries}"
    Intake(facts, model="claude-haiku-4-5", endpoint=facts.endpoints[0]).entry(task, largest)


@pytest.mark.parametrize("custom_id", ["", " ", "a b", "é", "a" * 65, "a\n", "a\x00", "a/b", 17, b"a", 1.5])
def test_a_custom_id_that_the_provider_would_refuse_is_refused_at_once(intake: Intake, custom_id: Any) -> None:
    with pytest.raises(CustomIdError) as caught:
        intake.entry(Echo(text="x"), custom_id)
    assert repr(custom_id) in str(caught.value)


def test_anthropic_leaves_room_for_the_token_in_a_custom_id() -> None:
    intake = Intake(ANTHROPIC, model="claude-haiku-4-5", endpoint="/v1/messages")
    assert intake.entry(Echo(text="x"), "a" * 55)
    with pytest.raises(CustomIdError):
        intake.entry(Echo(text="x"), "a" * 56)


@pytest.mark.parametrize(
    ("request_body", "field"),
    [
        ({"messages": [1]}, "model"),
        (body(model="gpt-4o"), "model"),
        (body(stream=True), "stream"),
        (body(messages=[]), "messages"),
    ],
)
def test_a_raw_request_that_the_provider_would_refuse_names_the_field(
    intake: Intake, request_body: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestError, match=f"Entry number 1: {field}: "):
        intake.entry(RawRequest(body=request_body))


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (["a"] * 2048, 2048)]
)
def test_the_inputs_of_an_embeddings_request_are_counted(given: Any, count: int) -> None:
    intake = Intake(OPENAI, model="text-embedding-3-small", endpoint="/v1/embeddings")
    assert intake.entry(RawRequest(body={"model": "text-embedding-3-small", "input": given})).inputs == count


def test_an_embeddings_request_of_more_inputs_than_openai_takes_is_refused(intake: Intake) -> None:
    embedding = Intake(OPENAI, model="m", endpoint="/v1/embeddings")
    with pytest.raises(RequestError, match="input: OpenAI embeds at most 2,048"):
        embedding.entry(RawRequest(body={"model": "m", "input": ["a"] * 2049}))
    assert intake.entry(RawRequest(body=body())).inputs == 1


def circle() -> dict[str, Any]:
    value = body()
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "request_body",
    [body(user="\ud800"), body(seed=float("nan")), body(x=float("inf")), body(x=object()), body(x=b"\xff"), circle()],
    ids=["surrogate", "nan", "infinity", "object", "bytes", "circle"],
)
def test_a_raw_request_that_has_no_json_form_is_refused(intake: Intake, request_body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no JSON form"):
        intake.entry(RawRequest(body=request_body))


def test_a_refused_entry_is_named_by_its_custom_id_or_its_number(intake: Intake) -> None:
    intake.entry(Echo(text="fine"))
    with pytest.raises(RequestError, match=r"^Entry number 2: "):
        intake.entry(Echo(text="\ud800"))
    with pytest.raises(RequestError, match=r"^Entry a-3: "):
        intake.entry(Echo(text=" "), "a-3")


def test_a_refusal_does_not_quote_the_prompt(intake: Intake) -> None:
    with pytest.raises(RequestError) as caught:
        intake.entry(Echo(text="hush-hush \ud800"))
    assert "hush-hush" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip))
def test_whatever_text_is_asked_one_line_of_json_says_it(text: str) -> None:
    intake = Intake(OPENAI, model="gpt-4o-mini", endpoint="/v1/chat/completions")
    entry = intake.entry(Echo(text=text))
    assert json.loads(entry.request)["messages"][0]["content"] == text
    assert "\n" not in entry.request
    assert "\x00" not in entry.request
    assert Echo.load_fields(entry.fields or "") == Echo(text=text)


def test_something_that_is_no_task_is_refused(intake: Intake) -> None:
    with pytest.raises(UnknownTaskError):
        intake.entry("hello")  # type: ignore[arg-type]


def test_a_model_that_is_probably_a_slip_is_refused_with_the_way_out() -> None:
    check_model(OPENAI, "gpt-4o-mini", allow_unknown=False)
    with pytest.raises(UnknownModelError, match=r"gpt-4o-mimi.*allow_unknown_model=True"):
        check_model(OPENAI, "gpt-4o-mimi", allow_unknown=False)
    check_model(OPENAI, "gpt-4o-mimi", allow_unknown=True)


def test_a_model_that_cannot_be_batched_is_refused_even_when_unknown_ones_are_allowed() -> None:
    with pytest.raises(UnknownModelError, match="takes no batches"):
        check_model(ANTHROPIC, "gpt-4o-mini", allow_unknown=True)


def test_the_endpoint_is_the_providers_first_one_or_the_one_that_is_asked_for() -> None:
    assert choose_endpoint(OPENAI, None) == "/v1/responses"
    assert choose_endpoint(OPENAI, "/v1/embeddings") == "/v1/embeddings"
    with pytest.raises(RequestError, match=r"'/v1/messages'.*/v1/responses, /v1/chat/completions, /v1/embeddings"):
        choose_endpoint(OPENAI, "/v1/messages")


@pytest.mark.parametrize("facts", [OPENAI, ANTHROPIC], ids=lambda facts: facts.name)
def test_the_room_of_a_batch_is_what_the_provider_takes(facts: Any) -> None:
    assert room(facts).limits == facts.limits
    assert (room(facts).provider, room(facts).frame_bytes) == (facts.name, facts.frame_bytes)


async def test_entries_come_from_any_iterable() -> None:
    items = [Echo(text="a"), Echo(text="b")]

    def generator() -> Iterator[Echo]:
        yield from items

    async def later() -> AsyncIterator[Echo]:
        for item in items:
            yield item

    for source in (items, tuple(items), generator(), later()):
        assert [item async for item in iterate(source)] == items
