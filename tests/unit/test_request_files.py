import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight import read_requests, request_files
from overnight.errors import ConfigurationError, LineError, UsageError
from overnight.intake import Intake, RawRequest
from overnight.providers import provider_facts

Write = Callable[..., Path]

BODY = {"model": "gpt-5.4-mini", "input": "Say hello."}
PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello."}]}


def openai(**more: Any) -> dict[str, Any]:
    return {"custom_id": "a-1", "method": "POST", "url": "/v1/responses", "body": BODY} | more


def anthropic(**more: Any) -> dict[str, Any]:
    return {"custom_id": "a-1", "params": PARAMS} | more


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*lines: Any) -> Path:
        file = tmp_path / "requests.jsonl"
        file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return file

    return write


def test_a_file_in_openais_form_is_read_as_it_is(write: Write) -> None:
    file = write(openai(), openai(custom_id="a-2", url="/v1/embeddings"))
    assert list(read_requests(file)) == [
        RawRequest(body=BODY, custom_id="a-1", endpoint="/v1/responses"),
        RawRequest(body=BODY, custom_id="a-2", endpoint="/v1/embeddings"),
    ]


def test_a_file_in_anthropics_form_is_read_as_it_is(write: Write) -> None:
    assert list(read_requests(str(write(anthropic())))) == [RawRequest(body=PARAMS, custom_id="a-1")]


def test_an_open_file_is_read_too_and_stays_open() -> None:
    file = io.BytesIO(json.dumps(openai()).encode())
    assert len(list(read_requests(file))) == 1
    assert not file.closed


def test_method_and_url_may_be_left_out() -> None:
    file = io.BytesIO(json.dumps({"custom_id": "a", "body": BODY}).encode())
    assert list(read_requests(file)) == [RawRequest(body=BODY, custom_id="a")]


def test_blank_lines_line_ends_of_windows_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\r\n" + json.dumps(openai()).encode() + b"\r\n\n  \n")
    assert len(list(read_requests(file))) == 1


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    line = json.dumps(openai(body={"input": f"one{separator}two"}), ensure_ascii=False)
    assert [request.body for request in read_requests(io.BytesIO(line.encode()))] == [{"input": f"one{separator}two"}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"custom_id": "a", "body": {"seed": NaN}}', "not JSON"),
        (
            {"custom_id": "a-1"},
            "no line of a provider's batch input: it has no 'body' (openai) or 'params' (anthropic)",
        ),
        ({"body": BODY}, "no 'custom_id'"),
        (openai(custom_id=7), "custom_id: every line needs it, as a text"),
        (openai(custom_id=None), "custom_id: every line needs it, as a text"),
        (openai(body="hello"), "body: every line needs it, as an object"),
        (openai(url=["/v1"]), "url: "),
        (openai(method="GET"), "method: 'GET' is not 'POST'"),
        (openai(priority=1), "the openai form knows no 'priority'"),
        (anthropic(url="/v1/messages"), "the anthropic form knows no 'url'"),
        (anthropic(params=[]), "params: every line needs it, as an object"),
    ],
)
def test_a_line_that_cannot_be_taken_is_named_by_its_number(write: Write, line: Any, why: str) -> None:
    file = write("", line)
    with pytest.raises(LineError) as caught:
        list(read_requests(file))
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert why in str(caught.value)
    assert caught.value.number == 2


def test_the_first_line_tells_the_form_of_all(write: Write) -> None:
    with pytest.raises(LineError, match=r"line 2: the openai form knows no 'params'"):
        list(read_requests(write(openai(), anthropic())))


def test_the_form_can_be_chosen(write: Write) -> None:
    assert len(list(read_requests(write(anthropic()), form="anthropic"))) == 1
    with pytest.raises(LineError, match="line 1"):
        list(read_requests(write(anthropic()), form="openai"))
    with pytest.raises(ConfigurationError, match="openai, anthropic"):
        list(read_requests(write(anthropic()), form="csv"))


def test_lines_before_a_bad_one_were_yielded(write: Write) -> None:
    requests = read_requests(write(openai(), "{"))
    assert next(requests).custom_id == "a-1"
    with pytest.raises(LineError):
        next(requests)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(ConfigurationError, match=str(place)):
            list(read_requests(place))


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_files, "MAX_LINE", 1000)
    file = io.BytesIO(b"x" * 100_000)
    with pytest.raises(LineError, match="longer than 1,000 bytes"):
        list(read_requests(file))
    assert file.tell() < 2_000


def test_nothing_is_read_ahead_of_what_is_asked_for() -> None:
    def lines() -> Iterator[bytes]:
        yield json.dumps(openai()).encode() + b"\n"
        raise AssertionError("read too far")

    class Once(io.RawIOBase):
        source = lines()

        def readline(self, size: int | None = -1, /) -> bytes:
            return next(self.source)

    assert next(read_requests(Once())).custom_id == "a-1"  # type: ignore[arg-type]


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
def test_whatever_a_body_holds_comes_out_as_it_went_in(body: dict[str, str]) -> None:
    file = io.BytesIO(json.dumps(openai(body=body)).encode())
    assert next(read_requests(file)).body == body


def test_intake_takes_the_requests_own_custom_id_unless_it_is_told_another() -> None:
    intake = Intake(provider_facts("openai"), model="gpt-5.4-mini", endpoint="/v1/responses")
    request = RawRequest(body=BODY, custom_id="own")
    assert intake.entry(request).custom_id == "own"
    assert intake.entry(request, "told").custom_id == "told"


def test_intake_refuses_a_request_for_another_endpoint() -> None:
    intake = Intake(provider_facts("openai"), model="gpt-5.4-mini", endpoint="/v1/responses")
    with pytest.raises(UsageError, match="url: the request is for '/v1/embeddings', and its batch for '/v1/responses'"):
        intake.entry(RawRequest(body=BODY, custom_id="a", endpoint="/v1/embeddings"))
