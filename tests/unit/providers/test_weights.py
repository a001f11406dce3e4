"""What can be said of a request's tokens before it is sent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.providers import provider_facts
from overnight.providers.weight import RequestWeight

OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")
ENDPOINTS = [(OPENAI, endpoint) for endpoint in OPENAI.endpoints] + [(ANTHROPIC, "/v1/messages")]


def responses(**body: Any) -> RequestWeight:
    return OPENAI.weigh({"model": "gpt-5-mini", **body}, endpoint="/v1/responses")


def chat(**body: Any) -> RequestWeight:
    return OPENAI.weigh({"model": "gpt-5-mini", "messages": [], **body}, endpoint="/v1/chat/completions")


def message(*parts: Any, **body: Any) -> RequestWeight:
    turns = [{"role": "user", "content": list(parts)}]
    return ANTHROPIC.weigh({"max_tokens": 10, "messages": turns, **body}, endpoint="/v1/messages")


def test_text_counts_by_its_bytes_wherever_it_stands() -> None:
    turn = {"role": "user", "content": [{"type": "input_text", "text": "x" * 40}]}
    assert responses(input="x" * 40, instructions="y" * 8).tokens == 12
    assert responses(input=[turn, turn]).tokens == 20 + 8
    assert responses(input="ж" * 40).tokens == 20


def test_what_steers_the_request_is_no_text() -> None:
    plain = {"role": "user", "content": "x" * 40}
    assert responses(input=[{**plain, "id": "i" * 100, "status": "completed"}]) == responses(input=[plain])
    assert responses(input="x", metadata={"note": "n" * 500}) == responses(input="x")


def test_tools_and_schemas_count_as_the_json_they_are() -> None:
    tool = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
    without, with_tool = message("four").tokens, message("four", tools=[tool]).tokens
    assert (
        with_tool == without + 346 + len('[{"name":"look","input_schema":{"type":"object","properties":{}}}]') // 4 + 1
    )
    assert not message("four", tools=[tool]).uncounted


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 5, "max_tokens": 7}, 5),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 7, "n": None}, 7),
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": -7}, None),
        ({"max_tokens": "7"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": 10**30}, None),
    ],
)
def test_the_answer_is_bounded_by_what_the_request_says(body: dict[str, Any], limit: int | None) -> None:
    assert chat(**body).max_output_tokens == limit


@pytest.mark.parametrize(
    ("weight", "what"),
    [
        (message({"type": "image", "source": {"data": "A" * 10**6}}), "images"),
        (message({"type": "document", "source": {"data": "A" * 10**6}}), "files"),
        (message("x", tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools of the provider"),
        (message("x", mcp_servers=[{"url": "https://example.com"}]), "tools of the provider"),
        (responses(input=[{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]), "files"),
        (responses(input="x", previous_response_id="resp_1"), "earlier responses"),
        (responses(prompt={"id": "pmpt_1"}), "stored prompts"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]), "images"),
        (chat(web_search_options={}), "tools of the provider"),
        (chat(model="gpt-5-search-api"), "tools of the provider"),
    ],
)
def test_what_is_not_text_is_named_instead_of_counted(weight: RequestWeight, what: str) -> None:
    assert weight.uncounted == {what}
    assert weight.tokens < 400


def test_only_anthropic_says_how_many_tokens_an_image_has_at_most() -> None:
    image, pdf = {"type": "image", "source": {"type": "url", "url": "u"}}, {"type": "document", "source": {}}
    cached = {**image, "cache_control": {"type": "ephemeral"}}
    assert message("x").uncounted_at_most == 0
    assert message("x", image, {"type": "tool_result", "content": [cached]}).uncounted_at_most == 9_600
    assert message(image, pdf).uncounted_at_most is None
    turns = [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]
    assert responses(input=turns).uncounted_at_most is None


def test_anthropic_writes_its_cache_where_it_is_asked_to_and_openai_by_itself() -> None:
    assert not message({"type": "text", "text": "x"}).may_write_cache
    assert message({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}).may_write_cache
    assert message("x", cache_control={"type": "ephemeral"}).may_write_cache
    assert message("x", tools=[{"name": "f", "cache_control": {"type": "ephemeral"}}]).may_write_cache
    assert responses(input="x").may_write_cache


KEYS = st.sampled_from(["type", "role", "content", "text", "tools", "n", "input", "messages", "max_tokens", "system"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("facts", "endpoint"), ENDPOINTS)
@given(body=st.dictionaries(KEYS, values, max_size=6))
def test_no_body_is_too_odd_to_be_weighed(facts: Any, endpoint: str, body: dict[str, Any]) -> None:
    weight = facts.weigh(body, endpoint=endpoint)
    assert weight.tokens >= 0
    assert weight.max_output_tokens is None or weight.max_output_tokens >= 0
