"""What we send is what the vendors' own SDKs say may be sent: their types, read by pydantic, refuse anything else."""

from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import BaseModel, TypeAdapter, ValidationError

from overnight.content import File, Image, Message
from overnight.provider_tools import CodeExecution, ProviderTool, WebSearch
from overnight.providers import provider_facts
from overnight.providers.base import Prompt
from overnight.tools import tool_of

PNG, PDF = b"\x89PNG\r\n\x1a\n rest", b"%PDF-1.7 rest"
PLACES: list[tuple[str, str, Any]] = [
    ("openai", "/v1/responses", ResponseCreateParamsNonStreaming),
    ("openai", "/v1/chat/completions", CompletionCreateParamsNonStreaming),
    ("anthropic", "/v1/messages", MessageCreateParamsNonStreaming),
]


class Mood(BaseModel):
    mood: str
    note: str | None = None


def look_up(city: str, days: int = 1) -> str:
    """The weather."""
    return city * days


def everything(endpoint: str) -> Prompt:
    chat, messages = endpoint == "/v1/chat/completions", endpoint == "/v1/messages"
    hosted: list[ProviderTool] = [WebSearch(allowed_domains=["x.example"]), CodeExecution()]
    texts = [] if chat else [File(data=b"text", name="a.txt"), File(url="https://x.example/a.pdf")]
    return Prompt(
        messages=[
            Message(
                role="user", content=[Image(data=PNG), Image(url="https://x.example/a.png"), File(data=PDF), *texts]
            ),
            Message(role="assistant", content=["An ", "owl."]),
            Message(role="user", content="Sure?"),
        ],
        system="Be brief.",
        output_schema=Mood.model_json_schema(),
        output_name="Mood",
        max_tokens=9,
        temperature=None if messages else 0.5,  # the version that the SDK pins knows none
        top_p=None if messages else 0.5,
        stop=None if endpoint == "/v1/responses" else ["END"],
        reasoning_effort="low",
        tools=[tool_of(look_up).spec, tool_of(Mood).spec],
        tool_choice="look_up",
        provider_tools=[] if chat else hosted,
    )


@pytest.mark.parametrize(("provider", "endpoint", "params"), PLACES)
def test_a_request_with_everything_in_it_is_what_the_sdk_types_say(provider: str, endpoint: str, params: Any) -> None:
    body = provider_facts(provider).render(everything(endpoint), model="m", endpoint=endpoint)
    adapter = TypeAdapter(params)
    assert unknown_keys(body, params) == set()
    adapter.validate_python(body)
    with pytest.raises(ValidationError):
        adapter.validate_python(body | {"tool_choice": {"type": "nothing"}})


def unknown_keys(body: dict[str, Any], params: Any) -> set[str]:
    return body.keys() - params.__required_keys__ - params.__optional_keys__
