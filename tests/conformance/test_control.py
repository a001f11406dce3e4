"""The control endpoints: looking inside, moving the clock, scripted answers."""

import json
from typing import Any

import pytest

from tests.conformance.bench import Bench, Simulate, anthropic_entry, openai_entry


def test_the_overview_names_batches_files_and_calls_but_no_key(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry("a")])
    bench.anthropic_batch([anthropic_entry("a")])
    bench.anthropic_batch([anthropic_entry("a")])
    overview = bench.control("GET", "state")
    assert overview["batch_counts"] == {"openai": 1, "anthropic": 2}
    assert [(b["id"], b["stage"]) for b in overview["batches"] if b["provider"] == "openai"] == [
        (batch.id, "validating")
    ]
    assert [f["id"] for f in overview["files"]] == [batch.input_file_id]
    assert list(overview["creates_by_client"].values()) == [3]
    calls = {(c["provider"], c["operation"], c["status"]): c["count"] for c in overview["calls"]}
    assert calls[("anthropic", "batches.create", 200)] == 2
    assert "test-key" not in json.dumps(overview)


def test_a_lost_answer_is_counted_with_status_zero(bench: Bench) -> None:
    bench.fault({"kind": "dropped"}, times=1)
    with pytest.raises(Exception, match="disconnected"):
        bench.http.get("/v1/batches")
    assert [c["status"] for c in bench.control("GET", "state")["calls"]] == [0]


def test_a_batch_is_finished_on_demand(bench: Bench) -> None:
    batch, message_batch = bench.openai_batch([openai_entry("a")]), bench.anthropic_batch([anthropic_entry("a")])
    for one in (batch.id, message_batch.id):
        bench.control("POST", f"batches/{one}", {"finish": True})
    done = bench.openai.batches.retrieve(batch.id)
    assert (done.status, set(bench.openai_lines(done))) == ("completed", {"a"})
    assert bench.anthropic.messages.batches.retrieve(message_batch.id).request_counts.succeeded == 1


def test_a_canceling_batch_is_finished_on_demand_as_canceled(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry("a"), openai_entry("b")])
    bench.openai.batches.cancel(batch.id)
    bench.control("POST", f"batches/{batch.id}", {"finish": True})
    assert bench.openai.batches.retrieve(batch.id).status == "cancelled"


def test_effects_are_pinned_to_a_batch_that_is_already_there(bench: Bench) -> None:
    batch = bench.openai_batch([openai_entry("a"), openai_entry("b")])
    bench.control("POST", f"batches/{batch.id}", {"effects": [{"kind": "lines", "how": "missing"}]})
    bench.control("POST", f"batches/{batch.id}", {"finish": True})
    assert len(bench.openai_lines(bench.openai.batches.retrieve(batch.id))) == 1


def test_an_unknown_batch_cannot_be_controlled(bench: Bench) -> None:
    assert bench.http.post("/_simulator/batches/batch_none", json={"finish": True}).status_code == 404
    assert bench.http.post("/_simulator/advance", json={"hours": 1}).status_code == 422


SCRIPT: list[dict[str, Any]] = [
    {"custom_id": "said", "text": "As scripted."},
    {"custom_id": "shaped", "value": {"mood": None}},
    {"custom_id": "null", "value": None},
    {"custom_id": "no", "refusal": "I will not."},
    {"custom_id": "busy", "error": {"kind": "rate_limit", "message": "Slow down."}},
    {"custom_id": "zero", "error": {"kind": "server", "status": 0}},
    {"custom_id": "tool", "tool_calls": [{"name": "judge", "arguments": {"mood": "good"}}]},
    {"custom_id": "cut", "text": "As scrip", "cut_off": True},
    {"custom_id": "like-*", "text": "By pattern."},
]


def test_scripted_answers_are_given_in_openai_form(bench: Bench) -> None:
    bench.control("PUT", "answers", SCRIPT)
    names = [*(a["custom_id"] for a in SCRIPT[:-1]), "like-this", "unscripted"]
    lines = bench.openai_lines(
        bench.openai_ended([openai_entry(name, url="/v1/chat/completions") for name in names], "/v1/chat/completions")
    )
    choices = {name: line["response"]["body"].get("choices", [None])[0] for name, line in lines.items()}
    assert choices["said"]["message"]["content"] == "As scripted."
    assert json.loads(choices["shaped"]["message"]["content"]) == {"mood": None}
    assert choices["null"]["message"]["content"] == "null"
    assert (choices["no"]["message"]["refusal"], choices["no"]["message"]["content"]) == ("I will not.", None)
    assert (lines["busy"]["response"]["status_code"], lines["zero"]["response"]["status_code"]) == (429, 0)
    assert choices["tool"]["message"]["tool_calls"][0]["function"] == {"name": "judge", "arguments": '{"mood":"good"}'}
    assert choices["cut"]["finish_reason"] == "length"
    assert choices["like-this"]["message"]["content"] == "By pattern."
    assert choices["unscripted"]["message"]["content"] == "Tell me of the night."


def test_scripted_answers_are_given_in_anthropic_form(bench: Bench) -> None:
    bench.control("PUT", "answers", SCRIPT)
    names = ["said", "shaped", "no", "busy", "tool", "cut"]
    results = bench.anthropic_lines(bench.anthropic_ended([anthropic_entry(name) for name in names]))
    messages = {name: result.get("message") for name, result in results.items()}
    assert messages["said"]["content"][0]["text"] == "As scripted."
    assert messages["no"]["stop_reason"] == "refusal"
    assert messages["cut"]["stop_reason"] == "max_tokens"
    assert messages["tool"]["content"][0]["input"] == {"mood": "good"}
    assert results["busy"]["error"]["error"] == {"type": "rate_limit_error", "message": "Slow down."}


def test_scripted_answers_are_listed_and_forgotten(bench: Bench) -> None:
    bench.control("POST", "answers", SCRIPT[0])
    assert bench.control("GET", "answers") == {"answers": [SCRIPT[0]]}
    bench.control("DELETE", "answers")
    assert bench.control("GET", "answers") == {"answers": []}


def test_a_reset_forgets_all_but_the_configured_faults(simulate: Simulate) -> None:
    from overnight.simulator import Fault, HtmlEffect, Match

    bench = simulate(faults=(Fault(match=Match(operation="files.list"), effect=HtmlEffect()),))
    bench.openai_batch([openai_entry("a")])
    bench.advance(100)
    bench.fault({"kind": "html"})
    bench.control("PUT", "answers", SCRIPT)
    bench.control("POST", "reset")
    overview = bench.control("GET", "state")
    assert (overview["batches"], overview["files"], overview["calls"]) == ([], [], [])
    assert [f["fault"]["match"]["operation"] for f in bench.control("GET", "faults")["faults"]] == ["files.list"]
    assert bench.control("GET", "answers") == {"answers": []}
