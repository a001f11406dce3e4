"""What every provider asks of a request, checked before anything is written: the error names the field at fault."""

from collections.abc import Collection, Mapping
from typing import Any

from overnight.errors import RequestError
from overnight.providers.base import Prompt


def check_prompt(prompt: Prompt, *, max_temperature: float) -> None:
    """Refuse a prompt that no endpoint would take.

    Raises:
        RequestError: with the field at fault.
    """
    if not prompt.messages:
        raise RequestError("messages: a prompt needs at least one message.")
    texts = {f"messages[{index}].content": message.content for index, message in enumerate(prompt.messages)}
    for field, text in (texts | {"system": prompt.system or ""}).items():
        _check_text(field, text)
    if prompt.max_tokens is not None and prompt.max_tokens < 1:
        raise RequestError(f"max_tokens: {prompt.max_tokens} leaves no room for an answer; it must be at least 1.")
    if prompt.temperature is not None and not 0 <= prompt.temperature <= max_temperature:
        raise RequestError(f"temperature: {prompt.temperature} is not between 0 and {max_temperature:g}.")


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
