"""Files of requests in the form that a provider's own batch API takes, one JSON object per line.

Such a file is what people have who come from a script: it can be handed in as it is. It is read line by line, so its
size does not matter.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from overnight.errors import ConfigurationError, EntryError, LineError
from overnight.intake import RawRequest

MAX_LINE = 128 * 1024 * 1024
"""Bytes. Only a file without line ends has longer ones, and it must not fill the memory."""

_BOM = b"\xef\xbb\xbf"

Source = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary file such as `sys.stdin.buffer`."""


@dataclass(frozen=True, kw_only=True)
class RequestForm:
    """How the lines of a provider's batch input say what an entry is.

    Attributes:
        name: what the form is called; it is that of the provider which defined it, and other providers take it too.
        body: the key of the request's body.
        endpoint: the key of its endpoint, where the lines name one.
        fixed: keys that can have one value only.
    """

    name: str
    body: str
    endpoint: str | None
    fixed: Mapping[str, str]


FORMS: Mapping[str, RequestForm] = {
    form.name: form
    for form in (
        RequestForm(name="openai", body="body", endpoint="url", fixed={"method": "POST"}),
        RequestForm(name="anthropic", body="params", endpoint=None, fixed={}),
    )
}


class _BadLineError(ValueError):
    """What is wrong with a line; its number is added further up."""


@dataclass(frozen=True, kw_only=True)
class JsonLine:
    """One line that holds something, parsed."""

    number: int
    value: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FiledRequest:
    """A request, with the number of its line and the form that it is in."""

    number: int
    form: RequestForm
    request: RawRequest


def read_requests(source: Source, *, form: str | None = None) -> Iterator[RawRequest]:
    """Read a file in OpenAI's or Anthropic's batch input format as raw requests, line by line.

    Add them with `await batch.add_all(read_requests("requests.jsonl"))`; each keeps its custom id.

    Args:
        source: a path, or an open binary file.
        form: "openai" or "anthropic"; by default the first line tells.

    Raises:
        ConfigurationError: the file cannot be opened, or there is no such form.
        LineError: a line is not in the form; its number is in the text. Lines before it were yielded.
    """
    return (filed.request for filed in filed_requests(source, form=form))


def filed_requests(source: Source, *, form: str | None = None) -> Iterator[FiledRequest]:
    """The same, with where each of them stands."""
    chosen = None if form is None else _form(form)
    for line in json_lines(source):
        with blamed(source, line.number):
            chosen = chosen or form_of(line.value)
            request = _request(line.value, chosen)
        yield FiledRequest(number=line.number, form=chosen, request=request)


def _form(name: str) -> RequestForm:
    if name not in FORMS:
        raise ConfigurationError(f"There is no request form {name!r}. There are: {', '.join(FORMS)}.")
    return FORMS[name]


def form_of(value: Mapping[str, Any]) -> RequestForm:
    """The form that a line is in, by the key of its body.

    Raises:
        ValueError: in none.
    """
    for form in FORMS.values():
        if form.body in value:
            return form
    forms = " or ".join(f"{form.body!r} ({form.name})" for form in FORMS.values())
    raise _BadLineError(f"this is no line of a provider's batch input: it has no {forms}.")


def _request(value: Mapping[str, Any], form: RequestForm) -> RawRequest:
    known = {"custom_id", form.body, form.endpoint, *form.fixed}
    if unknown := sorted(set(value) - known):
        raise _BadLineError(f"the {form.name} form knows no {', '.join(map(repr, unknown))}.")
    for key, wanted in form.fixed.items():
        if value.get(key, wanted) != wanted:
            raise _BadLineError(f"{key}: {value[key]!r} is not {wanted!r}.")
    return RawRequest(
        body=_of_type(value, form.body, dict),
        custom_id=_of_type(value, "custom_id", str),
        endpoint=_of_type(value, form.endpoint, str) if form.endpoint in value else None,
    )


def _of_type(value: Mapping[str, Any], key: str | None, kind: type[Any]) -> Any:
    assert key is not None
    if not isinstance(value.get(key), kind):
        what = "an object" if kind is dict else "a text"
        raise _BadLineError(f"{key}: every line needs it, as {what}." if key in value else f"it has no {key!r}.")
    return value[key]


def json_lines(source: Source) -> Iterator[JsonLine]:
    """The lines of a file that hold something, as JSON objects.

    Raises:
        ConfigurationError: the file cannot be read.
        LineError: a line is no JSON object.
    """
    with _opened(source) as file:
        for number, text in enumerate(_lines(file), start=1):
            stripped = (text.removeprefix(_BOM) if number == 1 else text).strip()
            if stripped:
                with blamed(source, number):
                    value = _object(stripped)
                yield JsonLine(number=number, value=value)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Cut at line feeds alone, as JSON Lines are: texts may hold any other separator. A longer piece is yielded as it
    is, and is then too long for `_object`.
    """
    while line := file.readline(MAX_LINE + 1):
        yield line


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_LINE:
        raise _BadLineError(f"longer than {MAX_LINE:,} bytes; the file needs one JSON object per line.")
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        # Its "line 1" is the line, and not the file's first.
        raise _BadLineError(f"not JSON: {str(error).replace('line 1 ', '')}.") from None
    if not isinstance(value, dict):
        raise _BadLineError("not a JSON object; the file needs one per line.")
    return value


@contextmanager
def blamed(source: Source, number: int) -> Iterator[None]:
    """Give what is wrong with a line its number."""
    try:
        yield
    except (_BadLineError, EntryError) as error:
        raise LineError(name_of(source), number, error) from None


def name_of(source: Source) -> str:
    """What a source is called in errors."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "the input"))


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, outside the try
    except OSError as error:
        raise ConfigurationError(f"Cannot read {name_of(source)}: {error.strerror or error}.") from None
    with file:
        yield file
