"""The short way and the careful one say the same of every line that the short one takes."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overnight.batches import Outcome, Usage
from overnight.providers import provider_facts
from overnight.providers.base import MalformedLineError, PlainLine, ProviderFacts, ResultLine, is_utf8

TOKEN = "ab12cd34"
OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")

counts = st.integers(0, 2**31 - 1)
counted = st.integers(1, 2**31 - 1)
oddities = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**40), st.floats(), st.text(max_size=3), st.just({}), st.just([])
)


def details(*names: str) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.fixed_dictionaries({}, optional=dict.fromkeys(names, counts)))


into = details("cached_tokens", "cache_write_tokens")
out = details("reasoning_tokens")
responses = st.fixed_dictionaries(
    {"input_tokens": counted},
    optional={"output_tokens": counts, "input_tokens_details": into, "output_tokens_details": out},
)
chat = st.fixed_dictionaries(
    {"prompt_tokens": counted},
    optional={"completion_tokens": counts, "prompt_tokens_details": into, "completion_tokens_details": out},
)
openai_lines = st.builds(
    lambda usage, extra: {
        "custom_id": "e-1",
        "response": {"status_code": 200, "body": {"usage": usage, **extra}},
        "error": None,
    },
    st.one_of(responses, chat, st.builds(lambda one, two: one | two, responses, chat)),
    st.sampled_from(
        [
            *({}, {"status": "completed"}, {"status": "incomplete"}, {"text": "NaN and Infinity"}),
            {"output": [{"type": "reasoning"}, {"type": "message", "content": []}, {"type": "function_call"}]},
        ]
    ),
)
anthropic_usage = st.fixed_dictionaries(
    {"input_tokens": counted, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": st.none() | counts,
        "cache_creation_input_tokens": st.none() | counts,
        "cache_creation": details("ephemeral_1h_input_tokens"),
        "output_tokens_details": details("thinking_tokens"),
        "server_tool_use": st.sampled_from([None, {}, {"web_search_requests": 0, "web_fetch_requests": 0}]),
    },
)
anthropic_lines = st.builds(
    lambda usage: {"custom_id": f"e-1-{TOKEN}", "result": {"type": "succeeded", "message": {"usage": usage}}},
    anthropic_usage,
)


def with_oddity(value: Any, path: tuple[str, ...], odd: Any, *, drop: bool) -> Any:
    """The same value with another one somewhere in it, or with a key gone."""
    key, *rest = path
    if rest:
        return {**value, key: with_oddity(value[key], tuple(rest), odd, drop=drop)}
    return {name: item for name, item in value.items() if name != key} if drop else {**value, key: odd}


def walk(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [*([path] if path else []), *(place for key, item in value.items() for place in walk(item, (*path, key)))]


def plainly(facts: ProviderFacts, line: bytes) -> PlainLine | None:
    return facts.read_plain(line, TOKEN) if is_utf8(line) else None


def carefully(facts: ProviderFacts, line: bytes) -> ResultLine | None:
    try:
        return facts.parse_line(line, TOKEN)
    except MalformedLineError:
        return None


def agree(facts: ProviderFacts, line: bytes) -> bool:
    """Whether the line is plain; if so, both ways must agree."""
    plain = plainly(facts, line)
    if plain is None:
        return False
    custom_id, spent, read, written, hourly, made, thought = plain
    usage = Usage(
        input_tokens=spent,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hourly,
        output_tokens=made,
        reasoning_tokens=thought,
    )
    assert carefully(facts, line) == ResultLine(custom_id=custom_id, outcome=Outcome.SUCCEEDED, usage=usage)
    return True


@pytest.mark.parametrize(("facts", "values"), [(OPENAI, openai_lines), (ANTHROPIC, anthropic_lines)])
def test_lines_that_are_in_order_are_plain_and_read_alike(facts: ProviderFacts, values: Any) -> None:
    @given(values, st.booleans())
    def hold(value: Any, escapes: Any) -> None:
        line = json.dumps(value, ensure_ascii=escapes).encode()
        assert agree(facts, line)

    hold()


@pytest.mark.parametrize(("facts", "values"), [(OPENAI, openai_lines), (ANTHROPIC, anthropic_lines)])
def test_a_line_with_anything_odd_in_it_is_read_alike_or_not_plain(facts: ProviderFacts, values: Any) -> None:
    @given(values, st.data(), oddities, st.booleans())
    def hold(value: Any, data: st.DataObject, odd: Any, drop: Any) -> None:
        path = data.draw(st.sampled_from(walk(value)))
        agree(facts, json.dumps(with_oddity(value, path, odd, drop=drop)).encode())

    hold()


@pytest.mark.parametrize(("facts", "values"), [(OPENAI, openai_lines), (ANTHROPIC, anthropic_lines)])
def test_a_line_with_any_byte_changed_is_read_alike_or_not_plain(facts: ProviderFacts, values: Any) -> None:
    @given(values, st.integers(0, 10_000), st.binary(max_size=2))
    @example({}, 0, b"\xef\xbb")
    def hold(value: Any, place: int, replacement: bytes) -> None:
        line = json.dumps(value).encode()
        place %= len(line)
        agree(facts, line[:place] + replacement + line[place + 1 :])

    hold()


def openai_line(**body: Any) -> bytes:
    response = {"status_code": 200, "body": {"usage": {"input_tokens": 1}, **body}}
    return json.dumps({"custom_id": "e-1", "response": response}).encode()


def anthropic_line(*blocks: str, used: Any = None, **message: Any) -> bytes:
    content = [{"type": "server_tool_use", "name": name} for name in blocks]
    message |= {"usage": {"input_tokens": 1, "output_tokens": 1, "server_tool_use": used}, "content": content}
    return json.dumps({"custom_id": f"e-1-{TOKEN}", "result": {"type": "succeeded", "message": message}}).encode()


def items(*types: str, **action: Any) -> list[dict[str, Any]]:
    return [{"type": kind, **action} for kind in types]


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        (openai_line(output=items("web_search_call", "message", "web_search_call")), {"web_search": 2}),
        (openai_line(output=items("web_search_call", action={"type": "search"})), {"web_search": 1}),
        (openai_line(output=items("web_search_call", action={"type": "open_page"})), {"web_search.open_page": 1}),
        (
            openai_line(output=items("code_interpreter_call", "file_search_call")),
            {"code_interpreter": 1, "file_search": 1},
        ),
        (openai_line(output=items("telepathy_call", "mcp_call", "computer_call")), {"telepathy": 1}),
        (openai_line(output=items("web_search_call"), status="failed"), {"web_search": 1}),
        (openai_line(output=[*items("web_search_call"), {"x": float("nan")}]), {"web_search": 1}),
        (openai_line(output=[7, None, {"type": 8}]), {}),
        (anthropic_line("web_search", used={"web_search_requests": 3, "web_fetch_requests": 2}), {"web_search": 3}),
        (anthropic_line(used={"web_search_requests": 0, "telepathy_requests": 1}), {"telepathy": 1}),
        (anthropic_line("bash_code_execution", "code_execution", container={"id": "c"}), {"code_execution": 2}),
        (anthropic_line(used={"web_search_requests": 1}, x=float("nan")), {"web_search": 1}),
    ],
)
def test_calls_of_the_providers_own_tools_are_counted_and_such_a_line_is_not_plain(
    line: bytes, calls: dict[str, int]
) -> None:
    facts = ANTHROPIC if TOKEN in line.decode() else OPENAI

    assert facts.read_plain(line, TOKEN) is None
    assert facts.parse_line(line, TOKEN).provider_calls == calls


HEAD = b'{"custom_id":"e-1","response":{"status_code":200,"body":{"usage":{"input_tokens":1},"x":'


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"NaN",
            b"-Infinity",
            b"01",
            b"1,",
            b"tru",
            b"[1,]",
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'"\\q"',
            b'"\\u12g4"',
        ),
        *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b'"\x01"', b"[" * 10**5 + b"]" * 10**5),
    ],
)
def test_what_is_no_json_is_not_plain(value: bytes) -> None:
    assert plainly(OPENAI, HEAD + value + b'}},"error":null}') is None
    assert plainly(OPENAI, HEAD + b'1}},"error":null}') is not None


@pytest.mark.parametrize("value", [b"[" * 300 + b"]" * 300, b"1" * 5000])
def test_json_that_python_would_not_make_an_object_of_is_plain_and_its_answer_can_be_read(value: bytes) -> None:
    line = HEAD + value + b',"output":[]}},"error":null}'

    assert plainly(OPENAI, line) == ("e-1", 1, 0, 0, 0, 0, 0)
    assert OPENAI.read_response(line, endpoint="/v1/responses").text == ""


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id":"e-1","custom_id":"e-2","response":{"status_code":200,"body":{"usage":{"input_tokens":1}}}}',
        b'{"custom_id":"e-1","response":{"status_code":200,"status_code":500,"body":{"usage":{"input_tokens":1}}}}',
        b'{"custom_id":"e-1","response":{"status_code":200,"body":{"usage":{"input_tokens":1,"input_tokens":2}}}}',
        b'{"custom_id":"e-1\\n","response":{"status_code":200,"body":{"usage":{"input_tokens":1}}}}',
    ],
)
def test_keys_that_come_twice_and_ids_that_end_oddly_are_read_alike(line: bytes) -> None:
    agree(OPENAI, line)
