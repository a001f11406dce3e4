"""Stored lines to outputs and back: whatever is odd about an entry stays with it."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from overnight.batches import Cost, Outcome, Usage
from overnight.errors import NoOutputError, ResponseError, UnknownTaskError
from overnight.hydrating import verdict_of
from overnight.providers import provider_facts
from overnight.providers.base import Response
from overnight.reading import entry_of
from overnight.storage.answers import Verdict
from overnight.storage.outputs import StoredEntry
from overnight.tasks import Task

FACTS = provider_facts("openai")
CHAT = "/v1/chat/completions"
BATCH_ID = UUID(int=7)


class Point(BaseModel):
    x: int


class Locate(Task[Point], name="hydrating-locate"):
    text: str


class Unspeakable(Exception):  # noqa: N818 - it is not one of ours
    def __str__(self) -> str:
        raise RuntimeError("not even its text can be had")


class Careless(Task[Point], name="hydrating-careless"):
    """A user's own `read`, with everything that can go wrong in one."""

    mode: str

    def read(self, response: Response) -> Any:
        match self.mode:
            case "raises":
                raise LookupError("a\x00b \ud800")
            case "unspeakable":
                raise Unspeakable
            case "refuses":
                raise ResponseError("my\x00code" * 100, "my reason\x00")
            case "wrong type":
                return {"x": "no number"}
            case "no json":
                return object()
            case _:
                return Point(x=len(response.text))


class Perhaps(Task[Point | None], name="hydrating-perhaps"):
    pass


class Says(Task[str], name="hydrating-says"):
    pass


def stored(task: str | None, fields: dict[str, Any] | None, **more: Any) -> StoredEntry:
    body = {"choices": [{"message": {"content": more.pop("content", '{"x":1}')}, "finish_reason": "stop"}]}
    line = {"custom_id": "a-1", "response": {"status_code": 200, "body": body}}
    known: dict[str, Any] = {
        "position": 5,
        "custom_id": "a-1",
        "task": task,
        "fields": json.dumps(fields) if fields is not None else None,
        "outcome": Outcome.SUCCEEDED,
        "error_code": None,
        "reason": None,
        "usage": Usage(),
        "cost": Cost(billed=None, list_price=None),
        "line": json.dumps(line),
        "output": None,
    }
    return StoredEntry(**(known | more))


def verdict(task: str, fields: dict[str, Any], **more: Any) -> Verdict:
    return asyncio.run(verdict_of(stored(task, fields, **more), FACTS, CHAT, BATCH_ID))


def test_a_good_answer_becomes_an_output() -> None:
    assert verdict("hydrating-locate", {"text": "q"}) == Verdict(position=5, output='{"x":1}')


@pytest.mark.parametrize("text", ["\x00", "a\u2028b", "\N{GRINNING FACE}", " kept as it is \n"])
def test_an_answer_of_odd_characters_is_an_output(text: str) -> None:
    assert Says.load_output(verdict("hydrating-says", {}, content=text).output or "") == text


@pytest.mark.parametrize(
    ("content", "code"),
    [("", "blank"), (None, "blank"), ("no json", "invalid_output"), ('{"x":"?"}', "invalid_output")],
)
def test_an_answer_that_does_not_fit_is_the_entrys_own_verdict(content: Any, code: str) -> None:
    found = verdict("hydrating-locate", {"text": "q"}, content=content)
    assert (found.position, found.output, found.error_code) == (5, None, code)
    assert found.reason


@pytest.mark.parametrize("line", [None, "", "null", "[]", "{}", "{", '{"response":{"body":{"choices":[]}}}'])
def test_a_line_that_is_no_response_is_the_entrys_own_verdict(line: str | None) -> None:
    found = verdict("hydrating-locate", {"text": "q"}, line=line)
    assert found.output is None
    assert found.error_code


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("raises", "task_failed"),
        ("unspeakable", "task_failed"),
        ("refuses", "my"),
        ("wrong type", "invalid_output"),
        ("no json", "invalid_output"),
    ],
)
def test_what_a_users_own_read_does_stays_with_its_entry_and_can_be_stored(mode: str, code: str) -> None:
    found = verdict("hydrating-careless", {"mode": mode})
    assert found.output is None
    assert found.error_code is not None
    assert found.error_code.startswith(code)
    assert len(found.error_code) <= 100
    for text in (found.error_code, found.reason or ""):
        text.encode()
        assert "\x00" not in text
        assert len(text) <= 2000


def test_fields_that_no_longer_fit_their_task_are_the_entrys_own_verdict() -> None:
    found = verdict("hydrating-locate", {"renamed": "q"})
    assert found.error_code == "task_failed"


def test_a_task_that_is_not_deployed_here_is_no_entrys_fault() -> None:
    with pytest.raises(UnknownTaskError, match="hydrating-nope"):
        verdict("hydrating-nope", {})


# And back.


def test_a_hydrated_entry_is_read_with_its_task_and_its_output() -> None:
    entry = entry_of(stored("hydrating-locate", {"text": "q"}, output='{"x":1}'))
    assert (entry.task, entry.output, entry.outcome) == (Locate(text="q"), Point(x=1), Outcome.SUCCEEDED)
    assert entry.response is not None


def test_an_entry_of_a_raw_request_has_neither_task_nor_output() -> None:
    entry = entry_of(stored(None, None))
    assert (entry.task, entry.output_or_none) == (None, None)


def test_an_entry_whose_fields_no_longer_fit_can_still_be_read_by_a_handler() -> None:
    entry = entry_of(
        stored("hydrating-locate", {"renamed": "q"}, outcome=Outcome.INVALID, error_code="task_failed", reason="why")
    )
    assert (entry.task, entry.output_or_none, entry.outcome, entry.reason) == (None, None, Outcome.INVALID, "why")


def test_an_entry_before_its_results_has_no_outcome_yet() -> None:
    entry = entry_of(stored("hydrating-locate", {"text": "q"}, outcome=None, line=None))
    assert (entry.outcome, entry.output_or_none, entry.response) == (None, None, None)
    assert entry.task == Locate(text="q")


def test_asking_an_entry_that_did_not_succeed_for_its_output_says_why_it_has_none() -> None:
    entry = entry_of(stored("hydrating-locate", {"text": "q"}, outcome=Outcome.INVALID, reason="it rhymes"))
    with pytest.raises(NoOutputError, match=r"'\S+' has no output: it is invalid \(it rhymes\)") as raised:
        _ = entry.output
    assert "rhymes" not in raised.value.public


def test_none_is_an_output_where_the_output_type_has_it() -> None:
    entry = entry_of(stored("hydrating-perhaps", {}, output="null"))
    assert entry.output is None


def test_reading_an_entry_of_a_task_that_is_not_deployed_here_says_so() -> None:
    with pytest.raises(UnknownTaskError, match="hydrating-nope"):
        entry_of(stored("hydrating-nope", {}))
