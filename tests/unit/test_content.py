"""Images and files: what they are, and what they become for each provider and endpoint."""

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from overnight.content import File, Image, Message
from overnight.errors import RequestError
from overnight.intake import Intake
from overnight.providers import provider_facts
from overnight.providers.base import Prompt
from overnight.tasks import Task

PNG = b"\x89PNG\r\n\x1a\n rest"
PDF = b"%PDF-1.7 rest"
TEXT = "Grüße"
OPENAI, ANTHROPIC = provider_facts("openai"), provider_facts("anthropic")
RESPONSES, CHAT, EMBEDDINGS, MESSAGES = *OPENAI.endpoints, *ANTHROPIC.endpoints


class Look(Task[str], name="content: look"):
    photo: Image
    paper: File | None = None

    def prompt(self) -> list[str | Image | File]:
        return [self.photo, *([self.paper] if self.paper else []), "What is this?"]


class Careless(Task[str], name="content: careless"):
    what: str

    def prompt(self) -> Any:
        return {"bytes": lambda: [Image(data=b"no image")], "mixed": lambda: [Message(role="user", content="a"), "b"]}[
            self.what
        ]()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def content(endpoint: str, *parts: Any) -> Any:
    facts = ANTHROPIC if endpoint == MESSAGES else OPENAI
    prompt = Prompt(messages=[Message(role="user", content=list(parts))])
    body = facts.render(prompt, model="claude-x" if endpoint == MESSAGES else "gpt-x", endpoint=endpoint)
    return body["input" if endpoint == RESPONSES else "messages"][0]["content"]


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_an_images_type_is_what_its_bytes_say(data: bytes, media_type: str) -> None:
    assert Image(data=data).media_type == media_type


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": b"BM bitmap"},
        {"data": b""},
        {"data": "?"},
        {"url": "ftp://x.example/a"},
        {"url": "https://"},
        {"url": "data:image/png;base64,AA=="},
        {"url": "https://x.example/a.png", "data": PNG},
    ],
)
def test_an_image_that_no_provider_could_take_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Image(**given)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"  \n", b"a\x00b"])
def test_a_file_is_a_pdf_or_text(data: bytes) -> None:
    assert File(data=PDF).media_type == "application/pdf"
    assert File(data=TEXT.encode()).text == TEXT
    with pytest.raises(ValidationError):
        File(data=data)


def test_what_is_read_from_a_path_keeps_its_name_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "paper.pdf").write_bytes(PDF)
    assert File.from_path(tmp_path / "paper.pdf") == File(data=PDF, name="paper.pdf")
    with pytest.raises(RequestError, match=r"^gone\.png cannot be read: No such file"):
        Image.from_path(tmp_path / "gone.png")


def test_images_and_files_are_in_each_endpoints_own_form() -> None:
    image, by_url = Image(data=PNG), Image(url="https://x.example/a.png")
    pdf, text, linked = File(data=PDF, name="a.pdf"), File(data=TEXT.encode()), File(url="https://x.example/a.pdf")
    as_png, as_pdf = f"data:image/png;base64,{b64(PNG)}", f"data:application/pdf;base64,{b64(PDF)}"
    assert content(RESPONSES, image, by_url, pdf, text, linked, "?") == [
        {"type": "input_image", "image_url": as_png, "detail": "auto"},
        {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": as_pdf},
        {
            "type": "input_file",
            "filename": "document.txt",
            "file_data": f"data:text/plain;base64,{b64(TEXT.encode())}",
        },
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "input_text", "text": "?"},
    ]
    assert content(CHAT, image, by_url, pdf, "?") == [
        {"type": "image_url", "image_url": {"url": as_png}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": as_pdf}},
        {"type": "text", "text": "?"},
    ]
    assert content(MESSAGES, image, by_url, pdf, text, linked, "?") == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)}},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}},
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        {"type": "text", "text": "?"},
    ]


def test_how_closely_a_model_looks_is_said_where_it_can_be_said() -> None:
    image = Image(url="https://x.example/a.png", detail="low")
    [in_responses], [in_chat] = content(RESPONSES, image), content(CHAT, image)
    assert (in_responses["detail"], in_chat["image_url"]["detail"]) == ("low", "low")
    assert content(MESSAGES, Image(data=PNG, detail="auto")) == content(MESSAGES, Image(data=PNG))
    with pytest.raises(ValidationError):
        Image(data=PNG, detail="lowest")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endpoint", "part", "text"),
    [
        (CHAT, File(data=b"text"), r"messages\[0\].content\[1\]: .*use /v1/responses"),
        (CHAT, File(url="https://x.example/a.pdf"), "PDFs as bytes only"),
        (EMBEDDINGS, Image(data=PNG), r"messages\[0\].content\[1\]: an embedding"),
        (MESSAGES, Image(data=PNG + bytes(8 * 1024 * 1024)), r"messages\[0\].content\[1\]: .*10 MB"),
        (MESSAGES, Image(data=PNG, detail="low"), r"messages\[0\].content\[1\].detail: Anthropic knows no such thing"),
        (MESSAGES, File(data=PDF + bytes(25 * 1024 * 1024)), "32 MB"),
        (RESPONSES, File(data=PDF + bytes(50_000_000)), "bytes of files: OpenAI takes at most 50,000,000"),
        (MESSAGES, " ", "empty or blank"),
        (RESPONSES, "\ud800", r"messages\[0\].content\[1\]: a lone surrogate"),
    ],
)
def test_what_an_endpoint_does_not_take_is_refused_with_its_place(endpoint: str, part: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        content(endpoint, "?", part)


def test_too_many_images_are_refused() -> None:
    image = Image(url="https://x.example/a.png")
    assert content(MESSAGES, *[image] * 600)
    with pytest.raises(RequestError, match="at most 600 images"):
        content(MESSAGES, *[image] * 601)


@pytest.mark.parametrize("facts", [OPENAI, ANTHROPIC], ids=lambda facts: facts.name)
def test_an_image_in_the_assistants_turn_is_refused(facts: Any) -> None:
    turns = [Message(role="user", content="?"), Message(role="assistant", content=["a", Image(data=PNG)])]
    with pytest.raises(RequestError, match=r"messages\[1\].content\[1\]: .*user's"):
        facts.render(Prompt(messages=turns), model="m", endpoint=facts.endpoints[0])


def test_a_task_with_an_image_is_stored_and_comes_back_and_a_foreign_client_can_send_it() -> None:
    task = Look(photo=Image(data=PNG), paper=File(data=PDF, name="a.pdf"))
    assert Look.load_fields(task.dump_fields()) == task
    assert Look.model_validate_json(f'{{"photo": {{"data": "{b64(PNG)}"}}}}') == Look(photo=Image(data=PNG))
    messages = task.render().messages
    assert messages[0].parts == [Image(data=PNG), File(data=PDF, name="a.pdf"), "What is this?"]


@pytest.mark.parametrize(("what", "text"), [("bytes", "the bytes are no PNG"), ("mixed", "not of both")])
def test_a_refused_part_names_the_entry(what: str, text: str) -> None:
    with pytest.raises(RequestError, match=f"^Entry e-1: .*{text}"):
        Intake(OPENAI, model="gpt-x", endpoint=CHAT).entry(Careless(what=what), "e-1")


def test_a_prompt_of_nothing_but_an_image_is_no_empty_prompt() -> None:
    class Only(Task[str], name="content: only"):
        def prompt(self) -> list[Image]:
            return [Image(data=PNG)]

    assert Only().render().messages[0].parts == [Image(data=PNG)]
