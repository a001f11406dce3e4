"""Settings of the model's work: of a class, and of one task."""

import json
from typing import Any

import pytest

from overnight.contracts import BatchSpec
from overnight.errors import EntryError, RequestError
from overnight.intake import Intake
from overnight.providers import provider_facts
from overnight.registering import registration
from overnight.settings import Settings
from overnight.tasks import Task

OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")
RESPONSES, CHAT, EMBEDDINGS, MESSAGES = *OPENAI.endpoints, *ANTHROPIC.endpoints


class Ask(Task[str], name="settings: ask"):
    max_tokens = 100
    temperature = 0.5
    text: str = "?"

    def prompt(self) -> str:
        return self.text

    def system_prompt(self) -> str:
        return f"About {self.text}"


class Bare(Task[str], name="settings: bare"):
    def prompt(self) -> str:
        return "?"


def body(endpoint: str, **settings: Any) -> dict[str, Any]:
    facts = ANTHROPIC if endpoint == MESSAGES else OPENAI
    return facts.render(Bare().with_settings(**settings).render(), model="m", endpoint=endpoint)


def test_a_task_has_its_classes_settings_and_then_its_own() -> None:
    prompt = Ask().with_settings(max_tokens=7, top_p=0.25).with_settings(temperature=None).render()
    assert (prompt.max_tokens, prompt.temperature, prompt.top_p) == (7, None, 0.25)
    assert Ask().render().max_tokens == 100


def test_a_system_prompt_can_be_made_from_fields() -> None:
    assert Ask(text="owls").render().system == "About owls"


@pytest.mark.parametrize("task", [Ask(text='{"$settings":'), Bare(), Ask()], ids=["odd text", "no fields", "plain"])
def test_settings_of_its_own_are_stored_with_a_task(task: Task[str]) -> None:
    own = task.with_settings(max_tokens=7, stop=["END"])
    again = type(task).load_fields(own.dump_fields())
    assert again == own
    assert again != task
    assert type(task).load_fields(task.dump_fields()) == task
    assert json.loads(own.dump_fields())["$settings"] == {"max_tokens": 7, "stop": ["END"]}


@pytest.mark.parametrize("settings", [{"max_token": 7}, {"max_tokens": "7"}, {"temperature": "hot"}, {"stop": "END"}])
def test_a_setting_that_is_none_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"settings: {next(iter(settings))}"):
        Bare().with_settings(**settings)


def test_each_endpoint_has_its_own_words_for_settings() -> None:
    assert body(CHAT, top_p=0.5, stop=["a"]).items() >= {"top_p": 0.5, "stop": ["a"]}.items()
    assert body(RESPONSES, top_p=0.5, temperature=1).items() >= {"top_p": 0.5, "temperature": 1}.items()
    assert body(MESSAGES, top_p=0.5, stop=["a"]).items() >= {"top_p": 0.5, "stop_sequences": ["a"]}.items()


@pytest.mark.parametrize(
    ("endpoint", "settings", "text"),
    [
        (RESPONSES, {"stop": ["a"]}, "stop: /v1/responses knows no such thing"),
        (CHAT, {"stop": list("abcde")}, "stop: OpenAI takes at most 4"),
        (CHAT, {"stop": [" "]}, "stop: .*blank"),
        (EMBEDDINGS, {"top_p": 0.5}, "top_p: embeddings"),
        (MESSAGES, {"top_p": 0.5, "temperature": 0.5}, "top_p: .*not both"),
        (MESSAGES, {"top_p": 1.5}, "top_p: 1.5 is not between 0 and 1"),
        (CHAT, {"top_p": float("nan")}, "top_p: nan"),
    ],
)
def test_a_setting_that_an_endpoint_does_not_have_is_refused(endpoint: str, settings: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        body(endpoint, **settings)


def spec(**settings: Any) -> BatchSpec:
    entry = {"custom_id": "a", "task": "settings: ask", "fields": {"text": "owls"}, "settings": settings}
    return BatchSpec.model_validate({"provider": "openai", "model": "gpt-4o-mini", "entries": [entry]})


async def test_a_foreign_client_can_give_a_task_settings_of_its_own(batch_id: Any) -> None:
    _, entries, _ = registration(spec(max_tokens=7), batch_id, Settings())
    (entry,) = [entry async for entry in entries]
    assert json.loads(entry.request)["max_output_tokens"] == 7
    assert Ask.load_fields(entry.fields or "") == Ask(text="owls").with_settings(max_tokens=7)


async def test_a_foreign_clients_wrong_setting_names_the_entry(batch_id: Any) -> None:
    _, entries, _ = registration(spec(max_token=7), batch_id, Settings())
    with pytest.raises(EntryError, match="Entry a: settings: max_token"):
        _ = [entry async for entry in entries]


@pytest.fixture
def batch_id() -> Any:
    from overnight.ids import new_batch_id

    return new_batch_id()


def test_a_schema_is_translated_once_for_a_class() -> None:
    class Shaped(Task[dict[str, int] | int], name="settings: shaped"):
        def prompt(self) -> str:
            return "?"

    class Fine(Task[Ask], name="settings: fine"):
        def prompt(self) -> str:
            return "?"

    intake = Intake(ANTHROPIC, model="m", endpoint=MESSAGES)
    with pytest.raises(RequestError, match="free keys"):
        intake.entry(Shaped())
    first, again = (ANTHROPIC.render(Fine().render(), model="m", endpoint=MESSAGES) for _ in range(2))
    assert first["output_config"]["format"]["schema"] is again["output_config"]["format"]["schema"]
