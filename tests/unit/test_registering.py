from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ConfigDict

from overnight.contracts import BatchSpec
from overnight.errors import (
    ConfigurationError,
    CustomIdError,
    EntryError,
    RequestError,
    UnknownHandlerError,
    UnknownModelError,
    UnknownProviderError,
    UnknownTaskError,
    UsageError,
)
from overnight.handlers import BatchHandler
from overnight.registering import new_batch, registration
from overnight.settings import Settings
from overnight.storage.entries import NewEntry
from overnight.tasks import Task

SETTINGS = Settings(poll_waits=(timedelta(seconds=7),), max_age=timedelta(hours=9))
RAW = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


class Greet(Task[str], name="registering-greet"):
    model_config = ConfigDict(strict=True, val_json_bytes="base64", ser_json_bytes="base64")

    who: str
    times: tuple[int, ...] = ()
    raw: bytes = b""

    def prompt(self) -> str:
        return f"Greet {self.who}."


class Keep(BatchHandler, name="registering-keep"):
    pass


def spec(*entries: dict[str, Any], **options: Any) -> BatchSpec:
    chosen = {"provider": "openai", "model": "gpt-4o-mini", "endpoint": "/v1/chat/completions"} | options
    return BatchSpec.model_validate(chosen | {"entries": entries or [{"request": RAW}]})


async def registered(batch: BatchSpec) -> list[NewEntry]:
    _, entries, _ = registration(batch, uuid4(), SETTINGS)
    return [entry async for entry in entries]


async def test_a_spec_holds_tasks_and_raw_requests() -> None:
    task = {"task": "registering-greet", "fields": {"who": "Ada", "times": [1, 2], "raw": "AP8="}, "custom_id": "a-1"}
    first, second = await registered(spec(task, {"request": RAW}))
    assert (first.custom_id, first.task) == ("a-1", "registering-greet")
    assert Greet.load_fields(first.fields or "") == Greet(who="Ada", times=(1, 2), raw=b"\x00\xff")
    assert (second.custom_id, second.task, second.label) == (None, None, "request")


async def test_fields_that_do_not_fit_are_named_without_their_values() -> None:
    wrong = {"task": "registering-greet", "fields": {"who": 4711, "sekret": "hush-hush"}, "custom_id": "a-1"}
    with pytest.raises(EntryError, match="Entry a-1: the fields do not fit task 'registering-greet'") as caught:
        await registered(spec(wrong))
    assert "who: " in str(caught.value)
    assert "sekret: " in str(caught.value)
    assert "4711" not in str(caught.value)
    assert "hush-hush" not in str(caught.value)


async def test_a_faulty_entry_without_a_custom_id_is_named_by_its_number() -> None:
    with pytest.raises(EntryError, match="Entry number 2: the fields"):
        await registered(spec({"request": RAW}, {"task": "registering-greet"}))
    with pytest.raises(RequestError, match="Entry number 2: model: "):
        await registered(spec({"request": RAW}, {"request": {"messages": [1]}}))


@pytest.mark.parametrize(
    ("entry", "error"),
    [({"task": "registering-nope"}, UnknownTaskError), ({"request": RAW, "custom_id": "a b"}, CustomIdError)],
)
async def test_an_entry_that_cannot_be_taken_raises_when_its_turn_comes(
    entry: dict[str, Any], error: type[UsageError]
) -> None:
    with pytest.raises(error):
        await registered(spec(entry))


def test_an_entry_is_either_a_task_or_a_request_and_a_spec_has_at_least_one() -> None:
    for entries in ([{}], [{"task": "t", "request": {}}], []):
        with pytest.raises(ValueError, match="entr"):
            BatchSpec.model_validate({"provider": "openai", "model": "m", "entries": entries})


def test_a_batch_takes_the_deployments_schedule_or_its_own() -> None:
    default = new_batch(spec(), uuid4(), SETTINGS)
    assert (default.schedule.waits, default.schedule.max_age) == ((timedelta(seconds=7),), timedelta(hours=9))
    own = new_batch(spec(poll_waits=["PT1S", "PT2S"], max_age="PT1H"), uuid4(), SETTINGS)
    assert own.schedule.waits == (timedelta(seconds=1), timedelta(seconds=2))
    assert own.schedule.max_age == timedelta(hours=1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": "PT0S"},
        {"max_age": "-PT1S"},
        {"poll_waits": []},
        {"poll_waits": ["PT0S"]},
        {"poll_waits": ["-PT1S"]},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_as_the_callers_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        new_batch(spec(**options), uuid4(), SETTINGS)


@pytest.mark.parametrize(
    "metadata", [{"a": "\x00"}, {"\x00": 1}, {"a": ["\ud800"]}, {"a": {"b": float("nan")}}, {"a": float("-inf")}]
)
def test_metadata_that_postgres_would_refuse_is_refused_as_the_callers_mistake(metadata: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="metadata"):
        new_batch(spec(metadata=metadata), uuid4(), SETTINGS)


@pytest.mark.parametrize("metadata", [{}, {"a": "\\u0000 \\\\u0000 \u2028 \N{GRINNING FACE}", "b": [None, {"c": 1.5}]}])
def test_other_metadata_is_taken_as_it_is(metadata: dict[str, Any]) -> None:
    assert new_batch(spec(metadata=metadata), uuid4(), SETTINGS).metadata == metadata


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"provider": "openia"}, UnknownProviderError),
        ({"model": "gpt-4o-mimi"}, UnknownModelError),
        ({"model": "whisper-1"}, UnknownModelError),
        ({"endpoint": "/v1/nope"}, RequestError),
        ({"handler": "registering-nope"}, UnknownHandlerError),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_written(
    options: dict[str, Any], error: type[UsageError]
) -> None:
    with pytest.raises(error):
        new_batch(spec(**options), uuid4(), SETTINGS)


def test_a_handler_is_looked_for_here_unless_it_lives_behind_a_task_queue_of_its_own() -> None:
    assert new_batch(spec(handler="registering-keep"), uuid4(), SETTINGS).handler == "registering-keep"
    elsewhere = new_batch(spec(handler="registering-nope", handler_task_queue="theirs"), uuid4(), SETTINGS)
    assert (elsewhere.handler, elsewhere.handler_task_queue) == ("registering-nope", "theirs")


def test_an_unknown_model_can_be_allowed() -> None:
    assert new_batch(spec(model="gpt-4o-mimi", allow_unknown_model=True), uuid4(), SETTINGS).model == "gpt-4o-mimi"
