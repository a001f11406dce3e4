"""Careful reading of JSON that somebody else wrote: nothing in here raises on a wrong shape, except where it says so.

Every text that leaves an adapter for the database goes through `clean`: Postgres text holds neither NUL nor lone
surrogates, and both can arrive in a provider's error message (which may quote the prompt).
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from pydantic_core import from_json

from overnight.providers.base import MalformedLineError

MAX_CODE = 100
MAX_REASON = 2000
MAX_COUNT = 2**31 - 1

T = TypeVar("T")

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""A count that needs no second look, for the shapes of plain lines."""

UNLIKE = (ValueError, RecursionError)
"""What a quick reader raises: it is no JSON, has another shape, or is nested deeper than the interpreter goes."""


class UnreadableLineError(ValueError):
    """A line that only a lenient reader can make sense of: it names an entry, and its answer cannot be trusted."""

    def __init__(self, salvaged: dict[str, Any], why: str) -> None:
        super().__init__(why)
        self.salvaged = salvaged


def as_object(value: Any) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """The value where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int:
    """A count as providers write it. What cannot be one (negative, huge, text, a boolean) counts as nothing."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else 0
    if isinstance(value, float) and value.is_integer():
        return count(int(value))
    return 0


def clean(value: Any, limit: int = MAX_REASON) -> str | None:
    """Any JSON scalar as text that Postgres can hold, cut to a length; None for nothing and for containers."""
    if value is None or isinstance(value, bool | dict | list):
        return None
    text = str(value)[:limit].replace("\0", "")
    return text.encode("utf-8", "replace").decode("utf-8") or None


def clean_code(value: Any) -> str | None:
    """An error code; foreign servers of the OpenAI shape write it as a number."""
    return clean(value, MAX_CODE)


def read_line(line: bytes) -> dict[str, Any]:
    """The JSON object in a result line.

    Raises:
        UnreadableLineError: an object, but with NaN, a lone surrogate, bytes that are no UTF-8, or too deep.
        MalformedLineError: not even that.
    """
    try:
        value = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise UnreadableLineError(_salvage(line), clean(error, 200) or "not JSON") from None
    if not isinstance(value, dict):
        raise MalformedLineError(f"The line is not a JSON object but {type(value).__name__}.")
    return value


def quick_reader(shape: type[T]) -> Callable[[bytes | str], T]:
    """Reads one shape of JSON, and raises one of `UNLIKE` for any other.

    What the shape does not name is checked for being JSON and becomes no Python object, which makes this several times
    as fast as `read_line`. Bytes that are skipped may be no UTF-8: only who knows that they are should ask.
    """
    return msgspec.json.Decoder(shape).decode


def _salvage(line: bytes) -> dict[str, Any]:
    """The standard library's reader takes what the strict one refuses; good enough for learning the custom id."""
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise MalformedLineError(f"The line is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise MalformedLineError(f"The line is not a JSON object but {type(value).__name__}.")
    return value
