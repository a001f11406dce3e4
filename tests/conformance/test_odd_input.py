"""Odd input gets an answer in the provider's words: it never breaks the simulator, nor the entries beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overnight.simulator import DefaultResponder, SimulatorConfig
from overnight.simulator.answers import Setting, answer
from overnight.simulator.anthropic_input import split_requests
from overnight.simulator.errors import ApiError
from overnight.simulator.jsontext import dump
from overnight.simulator.openai_input import scan_input
from tests.conformance.bench import CLAUDE, CLOSED_SCHEMA, GPT, Bench, openai_entry

CONFIG = SimulatorConfig()
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "name", "schema", "json_schema", "format", "role", "content", "text", "function", "parameters"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("input", "messages", "text", "response_format", "output_config", "tools", "tool_choice", "n", "metadata"),
        *("max_tokens", "max_output_tokens", "temperature", "instructions", "system", "dimensions", "stream"),
    ]
)
NORMAL = {
    "/v1/responses": {"model": GPT, "input": "night"},
    "/v1/chat/completions": {"model": GPT, "messages": [{"role": "user", "content": "night"}]},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "night", "dimensions": 3},
    "/v1/messages": {"model": CLAUDE, "max_tokens": 9, "messages": [{"role": "user", "content": "night"}]},
}


@given(odd=st.dictionaries(KEYS, ODD, max_size=3), endpoint=st.sampled_from(list(NORMAL)))
@settings(max_examples=300, deadline=None)
def test_any_body_is_answered_or_refused(odd: dict[str, Any], endpoint: str) -> None:
    setting = Setting(
        config=CONFIG, responder=DefaultResponder(), endpoint=endpoint, created_at=0, version="2023-06-01"
    )
    rendered = answer(setting, {**NORMAL[endpoint], **odd}, custom_id="e", token="0" * 32)
    assert rendered.ok or 400 <= rendered.status < 500
    assert ("error" in rendered.body and rendered.body["error"] is not None) is not rendered.ok
    dump(rendered.body)


@given(
    entries=st.lists(
        ODD | st.fixed_dictionaries({}, optional=dict.fromkeys(("custom_id", "method", "url", "body"), ODD))
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_line_is_validated_without_a_crash(tmp_path: Path, entries: list[Any]) -> None:
    path = tmp_path / "input.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    scan = scan_input(path, "/v1/embeddings", CONFIG)
    assert scan.total == len(entries)
    assert len(scan.errors) == max(1, len(entries))


@given(body=st.binary(max_size=50) | ODD.map(lambda v: json.dumps({"requests": v}).encode()), cut=st.integers(0, 200))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_create_body_is_taken_or_refused(tmp_path: Path, body: bytes, cut: int) -> None:
    source = tmp_path / "body"
    source.write_bytes(body[:cut])
    with pytest.raises(ApiError):
        split_requests(source, tmp_path / "lines", 10)


def test_an_odd_entry_leaves_the_entries_beside_it_alone(bench: Bench) -> None:
    odd = [
        openai_entry("tools", tools="all of them"),
        openai_entry("text", text=[1]),
        openai_entry("format", text={"format": {"type": "json_schema", "name": "x", "schema": []}}),
        openai_entry(
            "schema",
            text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "properties": 7}}},
        ),
        openai_entry("input", input=None),
    ]
    good = openai_entry("good", text={"format": {"type": "json_schema", "name": "x", "schema": CLOSED_SCHEMA}})
    lines = bench.openai_lines(bench.openai_ended([*odd, good]))
    statuses = {name: line["response"]["status_code"] for name, line in lines.items()}
    assert statuses == {"tools": 400, "text": 400, "format": 400, "schema": 400, "input": 400, "good": 200}
