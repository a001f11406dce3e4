"""Tools: what the model is told of them, and what becomes of its calls."""

import asyncio
import json
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from overnight.batches import Outcome, ToolCall
from overnight.errors import NoOutputError, RequestError, ToolDefinitionError
from overnight.hydrating import verdict_of, verdicts_of
from overnight.provider_tools import CodeExecution, WebSearch
from overnight.providers import provider_facts
from overnight.providers.base import Prompt
from overnight.reading import entry_of
from overnight.storage.answers import Verdict
from overnight.tasks import Task
from overnight.tools import ToolContext, load_calls, tool_of
from tests.unit.test_hydrating import stored

OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")
RESPONSES, CHAT, EMBEDDINGS, MESSAGES = *OPENAI.endpoints, *ANTHROPIC.endpoints
BATCH_ID = UUID(int=7)

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


async def look_up(
    city: Annotated[str, Field(description="Where.")], on: date, context: ToolContext, unit: Literal["C", "F"] = "C"
) -> dict[str, Any]:
    """The weather of a day.

    It is not always right.
    """
    ran.append(context.idempotency_key)
    return {"city": city, "on": on, "unit": unit}


def explode(copy: int) -> None:
    """A function whose argument has a name that pydantic uses itself."""
    raise LookupError(f"\x00no {copy}")


class Ticket(BaseModel):
    """Open a ticket."""

    model_config = ConfigDict(extra="forbid")
    title: str = Field(min_length=3)

    def run(self) -> str:
        ran.append(self.title)
        return f"T-{len(self.title)}"


class Noted(BaseModel):
    what: str


class Triage(Task[str], name="tools: triage"):
    tools = (look_up, Ticket, Noted, explode)

    def prompt(self) -> str:
        return "?"


class Structured(Task[Noted], name="tools: structured"):
    tools = (Ticket,)

    def prompt(self) -> str:
        return "?"


class CallsAlone(Task[None], name="tools: calls alone"):
    tools = (Ticket,)
    tool_choice = "required"

    def prompt(self) -> str:
        return "?"


def call(name: str, arguments: Any, call_id: str = "call_1") -> dict[str, Any]:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}


def line(text: str | None, *calls: dict[str, Any], finish: str = "tool_calls") -> str:
    message = {"content": text, "tool_calls": list(calls)}
    body = {"choices": [{"message": message, "finish_reason": finish}]}
    return json.dumps({"custom_id": "a-1", "response": {"status_code": 200, "body": body}})


def hydrated(task: str, raw: str) -> tuple[Verdict, list[ToolCall]]:
    verdict = asyncio.run(verdict_of(stored(task, {}, line=raw), OPENAI, CHAT, BATCH_ID))
    return verdict, list(load_calls(verdict.tool_calls))


# What the model is told.


def test_a_function_is_told_by_its_signature_and_its_docstring() -> None:
    spec = tool_of(look_up).spec
    assert (spec.name, spec.description) == ("look_up", "The weather of a day.\n\nIt is not always right.")
    assert set(spec.schema["properties"]) == {"city", "on", "unit"}
    assert spec.schema["properties"]["city"]["description"] == "Where."
    assert spec.schema["required"] == ["city", "on"]


def test_a_class_is_told_by_its_fields() -> None:
    spec = tool_of(Ticket).spec
    assert (spec.name, spec.description, spec.schema["required"]) == ("Ticket", "Open a ticket.", ["title"])


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        (lambda x: x, "its name"),
        (int, "a class must be a pydantic model"),
        (3, "its name"),
    ],
)
def test_what_no_model_could_call_is_no_tool(tool: Any, why: str) -> None:
    with pytest.raises(ToolDefinitionError, match=why):
        tool_of(tool)


def test_a_function_needs_types_and_names_for_its_arguments() -> None:
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
    def many(*a: int) -> None: ...
    def odd(a: object()) -> None: ...  # type: ignore[valid-type]

    for tool, why in ((untyped, "'a' has no type"), (many, "'a' cannot be given by name"), (odd, "no JSON schema")):
        with pytest.raises(ToolDefinitionError, match=why):
            tool_of(tool)


def test_two_tools_of_one_name_are_refused() -> None:
    other = type("Ticket", (BaseModel,), {"__module__": "elsewhere"})

    class Both(Task[str], name="tools: both"):
        tools = (Ticket, other)

        def prompt(self) -> str:
            return "?"

    with pytest.raises(ToolDefinitionError, match="same name"):
        Both().render()


def test_each_endpoint_is_told_of_tools_in_its_own_form() -> None:
    prompt = Structured().render()
    schema = {
        "type": "object",
        "title": "Ticket",
        "properties": {"title": {"title": "Title", "type": "string", "description": "(minLength: 3)"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    function = {"name": "Ticket", "description": "Open a ticket.", "parameters": schema, "strict": True}
    chat = OPENAI.render(prompt, model="m", endpoint=CHAT)
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert OPENAI.render(prompt, model="m", endpoint=RESPONSES)["tools"] == [{"type": "function", **function}]
    del function["parameters"]
    told = ANTHROPIC.render(prompt, model="m", endpoint=MESSAGES)
    assert told["tools"] == [{**function, "input_schema": schema}]
    assert "tool_choice" not in chat.keys() | told.keys()
    assert told["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("choice", "chat", "responses", "messages"),
    [
        ("required", "required", "required", {"type": "any"}),
        ("none", "none", "none", {"type": "none"}),
        (
            "Ticket",
            {"type": "function", "function": {"name": "Ticket"}},
            {"type": "function", "name": "Ticket"},
            {"type": "tool", "name": "Ticket"},
        ),
    ],
)
def test_each_endpoint_is_told_of_the_choice_in_its_own_form(
    choice: str, chat: Any, responses: Any, messages: Any
) -> None:
    prompt = Prompt(messages=Structured().render().messages, tools=[tool_of(Ticket).spec], tool_choice=choice)
    assert OPENAI.render(prompt, model="m", endpoint=CHAT)["tool_choice"] == chat
    assert OPENAI.render(prompt, model="m", endpoint=RESPONSES)["tool_choice"] == responses
    assert ANTHROPIC.render(prompt, model="m", endpoint=MESSAGES)["tool_choice"] == messages


@pytest.mark.parametrize(
    ("endpoint", "more", "text"),
    [
        (CHAT, {"tool_choice": "Ticket"}, "tool_choice: 'Ticket' is none of: auto, none"),
        (MESSAGES, {"tool_choice": "required"}, "tool_choice: 'required'"),
        (EMBEDDINGS, {"tools": [tool_of(Ticket).spec]}, "tools: embeddings"),
        (EMBEDDINGS, {"provider_tools": [WebSearch()]}, "tools: embeddings"),
        (CHAT, {"provider_tools": [WebSearch()]}, "has no WebSearch; use /v1/responses"),
        (RESPONSES, {"provider_tools": [WebSearch(blocked_domains=["x.example"])]}, "which not to"),
        (RESPONSES, {"provider_tools": [WebSearch(max_uses=1), CodeExecution()]}, "WebSearch alone"),
        (MESSAGES, {"provider_tools": [WebSearch(allowed_domains=["a"], blocked_domains=["b"])]}, "not both"),
        (MESSAGES, {"tools": [tool_of(Ticket).spec] * 21}, "at most 20"),
    ],
)
def test_tools_that_an_endpoint_does_not_take_are_refused(endpoint: str, more: Any, text: str) -> None:
    facts = ANTHROPIC if endpoint == MESSAGES else OPENAI
    with pytest.raises(RequestError, match=text):
        facts.render(Prompt(messages=Structured().render().messages, **more), model="m", endpoint=endpoint)


def test_a_tool_whose_arguments_cannot_be_said_is_refused_by_name() -> None:
    def keep(values: dict[str, int]) -> None: ...

    prompt = Prompt(messages=Structured().render().messages, tools=[tool_of(keep).spec])
    for facts in (OPENAI, ANTHROPIC):
        with pytest.raises(RequestError, match=r"^tools\.keep: the schema\.values: .*free keys"):
            facts.render(prompt, model="m", endpoint=facts.endpoints[0])


def test_the_providers_own_tools_are_told_in_its_own_words() -> None:
    search = WebSearch(max_uses=3, allowed_domains=["x.example"])
    prompt = Prompt(messages=Structured().render().messages, provider_tools=[search])
    body = OPENAI.render(prompt, model="m", endpoint=RESPONSES)
    assert body["tools"] == [{"type": "web_search", "filters": {"allowed_domains": ["x.example"]}}]
    assert body["max_tool_calls"] == 3
    assert ANTHROPIC.render(prompt, model="m", endpoint=MESSAGES)["tools"] == [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3, "allowed_domains": ["x.example"]}
    ]


# What becomes of its calls.


def test_a_call_is_made_with_what_the_tool_knows_and_its_result_is_kept() -> None:
    arguments = {"city": "Ulm", "on": "2026-11-22", "invented": True}
    verdict, calls = hydrated("tools: triage", line("Done.", call("look_up", arguments)))
    assert calls == [
        ToolCall(
            id="call_1",
            name="look_up",
            arguments={"city": "Ulm", "on": "2026-11-22"},
            result={"city": "Ulm", "on": "2026-11-22", "unit": "C"},
        )
    ]
    assert (verdict.output, verdict.invalid) == ('"Done."', False)
    assert ran == [f"{BATCH_ID}:a-1:1:call_1"]


def test_the_key_of_a_call_is_the_same_whenever_it_is_made_again() -> None:
    raw = line("", call("look_up", {"city": "Ulm", "on": "2026-11-22"}, call_id=""))
    hydrated("tools: triage", raw)
    hydrated("tools: triage", raw)
    assert ran == [f"{BATCH_ID}:a-1:1:"] * 2


def test_a_class_does_its_work_in_run_and_one_without_it_is_kept_as_it_was_filled_in() -> None:
    raw = line(None, call("Ticket", {"title": "Leak", "x": 1}), call("Noted", {"what": "w"}, "call_2"))
    verdict, (ticket, noted) = hydrated("tools: triage", raw)
    assert (ticket.result, ticket.parsed(Ticket)) == ("T-4", Ticket(title="Leak"))
    assert (noted.succeeded, noted.result, noted.parsed(Noted)) == (True, None, Noted(what="w"))
    assert (verdict.output, verdict.invalid) == (None, False)


def test_a_tool_that_is_not_there_is_kept_and_marked_and_harms_nothing() -> None:
    verdict, (call_of_nobody,) = hydrated("tools: triage", line("Done.", call("rm_rf", {"path": "/"})))
    assert (call_of_nobody.error_code, call_of_nobody.arguments) == ("unknown_tool", {"path": "/"})
    assert verdict.output == '"Done."'


def test_an_answer_with_nothing_but_tools_that_are_not_there_is_blank() -> None:
    verdict, calls = hydrated("tools: triage", line("", call("rm_rf", {})))
    assert (verdict.error_code, calls[0].error_code) == ("blank", "unknown_tool")


@pytest.mark.parametrize("arguments", [{"title": "ab"}, {}, "{no json", "[]", "null", {"title": 3}])
def test_arguments_that_do_not_fit_make_the_entry_invalid_and_no_tool_runs(arguments: Any) -> None:
    raw = line("Done.", call("Ticket", {"title": "fine"}), call("Ticket", arguments, "call_2"))
    verdict, (fine, wrong) = hydrated("tools: triage", raw)
    assert (verdict.output, verdict.error_code) == (None, "invalid_tool_call")
    assert (fine.error_code, wrong.error_code) == ("not_run", "invalid_arguments")
    assert wrong.error
    assert ran == []


def test_a_tool_that_raises_makes_its_entry_invalid_and_the_others_keep_their_results() -> None:
    raw = line("Done.", call("explode", {"copy": 3}), call("Ticket", {"title": "fine"}, "call_2"))
    verdict, (exploded, ticket) = hydrated("tools: triage", raw)
    assert (verdict.error_code, exploded.error_code, ticket.result) == ("tool_failed", "failed", "T-4")
    assert exploded.error == "LookupError: \N{REPLACEMENT CHARACTER}no 3"


@pytest.mark.parametrize(("finish", "code"), [("length", "truncated"), ("content_filter", "refused")])
def test_no_tool_runs_for_an_answer_that_was_cut_or_refused(finish: str, code: str) -> None:
    verdict, calls = hydrated("tools: calls alone", line(None, call("Ticket", {"title": "fine"}), finish=finish))
    assert (verdict.error_code, calls[0].error_code, ran) == (code, "not_run", [])


def test_no_tool_runs_for_an_answer_that_does_not_fit_its_output() -> None:
    verdict, _ = hydrated("tools: structured", line("no json", call("Ticket", {"title": "fine"})))
    assert (verdict.error_code, ran) == ("invalid_output", [])


def test_an_answer_of_tool_calls_alone_is_no_blank_one_and_has_no_output() -> None:
    raw = line(None, call("Ticket", {"title": "fine"}))
    verdict, _ = hydrated("tools: structured", raw)
    entry = entry_of(stored("tools: structured", {}, line=raw, tool_calls=verdict.tool_calls))
    assert (entry.succeeded, entry.tool_calls[0].result) == (True, "T-4")
    with pytest.raises(NoOutputError, match="tool calls alone"):
        _ = entry.output


def test_a_result_that_is_no_json_is_that_calls_failure() -> None:
    def odd() -> object:
        return object()

    class Odd(Task[None], name="tools: odd"):
        tools = (odd,)

    verdict, (made,) = hydrated("tools: odd", line(None, call("odd", {})))
    assert (verdict.error_code, made.error_code) == ("tool_failed", "failed")


async def test_a_page_is_judged_in_its_order_and_a_task_that_is_not_deployed_stops_it_by_name() -> None:
    page = [stored("tools: triage", {}, position=n, line=line(f"{n}")) for n in range(1, 30)]
    verdicts = await verdicts_of(page, OPENAI, CHAT, BATCH_ID)
    assert [verdict.output for verdict in verdicts] == [f'"{n}"' for n in range(1, 30)]
    with pytest.raises(Exception, match="tools: nowhere") as caught:
        await verdicts_of([*page, stored("tools: nowhere", {})], OPENAI, CHAT, BATCH_ID)
    assert not isinstance(caught.value, ExceptionGroup)


def test_an_entry_that_is_invalid_keeps_its_calls_for_whoever_looks() -> None:
    verdict, calls = hydrated("tools: triage", line("Done.", call("Ticket", {})))
    row = stored("tools: triage", {}, outcome=Outcome.INVALID, tool_calls=verdict.tool_calls)
    assert list(entry_of(row).tool_calls) == calls
    assert calls[0].error_code == "invalid_arguments"
