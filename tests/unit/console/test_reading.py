"""What strangers wrote becomes text that can be read, and never anything else."""

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.console.formatting import dollars, duration, money, plain, share, short, size, visible
from overnight.console.reading import Turn, answer, indented, provider_calls, turns
from overnight.storage.console_values import LONG, Excerpt
from overnight.testing.values import finished_batch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_indented_json_is_the_same_json(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(indented(text)) == value


def test_indented_json_keeps_every_digit_and_every_escape() -> None:
    assert (
        indented('{"a":[1.10,1e999],"b":"\\u202e"}') == '{\n  "a": [\n    1.10,\n    1e999\n  ],\n  "b": "\\u202e"\n}'
    )


def test_json_that_is_deep_or_broken_or_huge_is_shown_as_far_as_a_page_goes() -> None:
    for text in ("[" * 200_000, '{"a":"' + "x" * 200_000, '{"a":' * 50_000, '["' + "\\" * 99_999):
        assert 0 < len(indented(text)) <= LONG


def test_what_is_no_json_stays_as_it_is() -> None:
    assert indented("<html>[1, 2]</html>") == "<html>[1, 2]</html>"


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"]
)
def test_what_cannot_be_seen_is_named(character: str) -> None:
    shown = str(visible(f"a{character}b"))
    assert character not in shown
    assert f'<span class="unseen">U+{ord(character):04X}</span>' in shown
    assert plain(f"a{character}b") == f"aU+{ord(character):04X}b"


def test_line_ends_tabs_emoji_and_scripts_of_any_direction_are_left_alone() -> None:
    text = "a\n\tb \N{WOMAN}\u200d\N{ROCKET} \u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd"
    assert str(visible(text)) == f"<bdi>{text}</bdi>"


@given(st.text())
def test_no_text_becomes_markup(text: str) -> None:
    shown = str(visible(text)).removeprefix("<bdi>").removesuffix("</bdi>")
    assert "<" not in re.sub(r'<span class="unseen">U\+[0-9A-F]+</span>', "", shown)
    shown.encode()


def test_a_name_is_cut_where_it_is_too_long() -> None:
    assert short("x" * 100, 10) == "<bdi>" + "x" * 9 + "…</bdi>"


def test_the_conversation_is_found_in_the_bodies_of_all_endpoints() -> None:
    user = Turn(role="user", text="Hello")
    system = Turn(role="system", text="Be brief.")
    part = {"type": "text", "text": "Hello"}
    bodies = [
        {"system": "Be brief.", "messages": [{"role": "user", "content": "Hello"}]},
        {"instructions": "Be brief.", "input": "Hello"},
        {"system": [{"type": "text", "text": "Be brief."}], "messages": [{"role": "user", "content": [part]}]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
    ]
    assert [turns(json.dumps(body)) for body in bodies] == [[system, user]] * 4


def test_a_picture_in_a_conversation_is_named_and_not_shown() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "image", "source": {"data": "AAAA"}}]}]}
    assert turns(json.dumps(body)) == [Turn(role="user", text="[image]")]


@pytest.mark.parametrize(
    "request_text",
    ["", "[]", "null", "7", '{"messages": 5}', '{"messages": [[[[[["x"]]]]]]}', "{" * 9_999, '{"input": []}'],
)
def test_a_request_without_a_conversation_has_no_turns(request_text: str) -> None:
    assert turns(request_text) == []


def line(text: str) -> Excerpt:
    return Excerpt(text=text, size=len(text))


def test_an_answer_that_cannot_be_read_is_none() -> None:
    for text in ("", "nonsense", "[" * 100_000, '{"custom_id": "a"}', "null"):
        assert answer("anthropic", "/v1/messages", line(text)) is None
        assert answer("openai", "/v1/responses", line(text)) is None
    assert answer("nobody", "/v1", line("{}")) is None
    assert answer("openai", "/v1/responses", None) is None


@pytest.mark.parametrize(
    ("amount", "shown", "headline"),
    [
        (None, "unknown", "unknown"),
        (Decimal(0), "$0.0000", "$0.0000"),
        (Decimal("0.00001"), "< $0.0001", "< $0.0001"),
        (Decimal("1234.56789"), "$1,234.5679", "$1,234.57"),
    ],
)
def test_money_that_is_not_known_is_not_zero_and_little_money_neither(
    amount: Decimal | None, shown: str, headline: str
) -> None:
    assert (money(amount), dollars(amount)) == (shown, headline)


def test_only_all_is_a_hundred_percent_and_only_none_is_zero() -> None:
    assert [share(part, 1_000_000) for part in (0, 1, 500_000, 999_999, 1_000_000)] == [
        *("0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %")
    ]
    assert share(0, 0) == "-"


def test_sizes_and_times_are_in_the_units_that_fit() -> None:
    assert [size(count) for count in (0, 999, 1_500, 2_000_000, 3_000_000_000_000)] == [
        *("0 bytes", "999 bytes", "1.5 KB", "2.0 MB", "3000.0 GB")
    ]
    times = [timedelta(seconds=seconds) for seconds in (0.25, 61, 3_660, 93_600)]
    assert [duration(time) for time in times] == ["0.2 s", "1 min 1 s", "1 h 1 min", "1 d 2 h"]


def test_tools_that_the_provider_ran_for_an_answer_are_counted_from_its_line() -> None:
    items = [{"type": "web_search_call", "action": {"type": "search"}}, {"type": "function_call"}]
    said = json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": {"output": items}}})

    batch = finished_batch(provider="openai", endpoint="/v1/responses")
    assert provider_calls(batch, None, line(said)) == {"web_search": 1}
    assert provider_calls(batch, line("{}"), line("nonsense")) == {}
    assert provider_calls(batch, line("{}"), None) == {}


def test_a_tool_whose_calls_no_answer_tells_is_seen_in_the_request() -> None:
    message = {"choices": [{"message": {"content": "Yes."}}]}
    said = json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": message}})
    batch = finished_batch(provider="openai", endpoint="/v1/chat/completions")

    assert provider_calls(batch, line('{"web_search_options": {}}'), line(said)) == {"web_search_options": 1}
    assert provider_calls(batch, line('{"messages": []}'), line(said)) == {}
    assert provider_calls(batch, line('["web_search_options"]'), line(said)) == {}
