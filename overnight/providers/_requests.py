"""What every provider asks of a request, checked before anything is written: the error names the field at fault."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from overnight.content import File, Image, Message, Part
from overnight.errors import RequestError
from overnight.providers.base import Prompt

T = TypeVar("T")


def check_prompt(prompt: Prompt, *, max_temperature: float) -> None:
    """Refuse a prompt that no endpoint would take.

    Raises:
        RequestError: with the field at fault.
    """
    if not prompt.messages:
        raise RequestError("messages: a prompt needs at least one message.")
    for index, message in enumerate(prompt.messages):
        _check_message(f"messages[{index}].content", message)
    _check_text("system", prompt.system or "")
    if prompt.max_tokens is not None and prompt.max_tokens < 1:
        raise RequestError(f"max_tokens: {prompt.max_tokens} leaves no room for an answer; it must be at least 1.")
    _check_between("temperature", prompt.temperature, max_temperature)
    _check_between("top_p", prompt.top_p, 1)
    if any(not text.strip() for text in prompt.stop or ()):
        raise RequestError("stop: a text to stop at must not be blank.")
    check_tools(prompt)


def check_tools(prompt: Prompt) -> None:
    """Refuse a choice among tools that are not there.

    Raises:
        RequestError: with the field at fault.
    """
    names = [tool.name for tool in prompt.tools]
    if prompt.tool_choice in ("auto", "none") or prompt.tool_choice in names:
        return
    if prompt.tool_choice != "required" or not (names or prompt.provider_tools):
        choices = ", ".join(["auto", "none", *(["required"] if names else []), *names])
        raise RequestError(f"tool_choice: {prompt.tool_choice!r} is none of: {choices}.")


def _check_message(field: str, message: Message) -> None:
    if isinstance(message.content, str):
        _check_text(field, message.content)
        return
    if not message.content:
        raise RequestError(f"{field}: the message is empty.")
    for index, part in enumerate(message.content):
        if isinstance(part, str):
            _check_text(f"{field}[{index}]", part)
        elif message.role != "user":
            raise RequestError(f"{field}[{index}]: images and files belong into the user's messages.")
        elif isinstance(part, File):
            _check_text(f"{field}[{index}].name", part.name or "")


def _check_between(field: str, value: float | None, most: float) -> None:
    if value is not None and not 0 <= value <= most:
        raise RequestError(f"{field}: {value} is not between 0 and {most:g}.")


def attachments(prompt: Prompt) -> Iterator[tuple[str, Image | File]]:
    """The images and files of a prompt, with what errors call them."""
    for number, message in enumerate(prompt.messages):
        if not isinstance(message.content, str):
            for index, part in enumerate(message.content):
                if not isinstance(part, str):
                    yield f"messages[{number}].content[{index}]", part


def base64_size(data: bytes | None) -> int:
    """Bytes of base64 text."""
    return -(-len(data or b"") // 3) * 4


def joined(content: str | Sequence[Part]) -> str:
    """The text of a message without attachments."""
    return content if isinstance(content, str) else "".join(part for part in content if isinstance(part, str))


class Renderings(Generic[T]):
    """What was made of values that do not change, found by who they are and not by what they say.

    A batch asks the same question thousands of times: its schemas are translated once.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._made: dict[tuple[int, ...], tuple[tuple[object, ...], T]] = {}

    def get(self, make: Callable[[], T], *of: object) -> T:
        """The rendering of these values. They are held for as long as it is, so that no other value gets their id."""
        key = tuple(map(id, of))
        if key not in self._made:
            if len(self._made) >= self._size:
                self._made.clear()
            self._made[key] = of, make()
        return self._made[key][1]


def _check_text(field: str, text: str) -> None:
    """A lone surrogate is no character: no JSON reader on the other side takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{field}: a lone surrogate at character {error.start}, which UTF-8 cannot hold.") from None


def check_body(
    request: Mapping[str, Any], *, model: str, required: Collection[str], refused: Mapping[str, str]
) -> None:
    """Refuse a ready-made body that lacks what the endpoint needs, or has what a batch cannot do.

    Args:
        request: the body.
        model: the batch's model, which the body must name too: results are billed by what the body says.
        required: keys that must be there and not empty.
        refused: keys that must be absent, null or false, with the reason.

    Raises:
        RequestError: with the field at fault.
    """
    check_model(request, model)
    for key in required:
        if request.get(key) in (None, "", [], {}):
            raise RequestError(f"{key}: the endpoint needs it, and the request has none.")
    for key, reason in refused.items():
        if request.get(key) not in (None, False):
            raise RequestError(f"{key}: {reason}.")


def check_model(request: Mapping[str, Any], model: str) -> None:
    """Refuse a body of another model than the batch's, and one of none."""
    if "model" not in request:
        raise RequestError(f'model: the request names none; add "model": {model!r}, the model of its batch.')
    if request["model"] != model:
        raise RequestError(f"model: the request names {request['model']!r}, and its batch is for {model!r}.")
