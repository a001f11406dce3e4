"""JSON in and out, as fast as it goes and as raw as the providers write it."""

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json


def parse(raw: bytes | str) -> Any:
    """Parse strictly: no NaN, no lone surrogates. Raises ValueError."""
    return from_json(raw, allow_inf_nan=False)


def dump(value: Any) -> bytes:
    """Raw UTF-8: U+2028 and friends stay unescaped, as JSON allows and as line splitters hate.

    A lone surrogate has no UTF-8 form, so a value that holds one is written with escapes instead.
    """
    try:
        return to_json(value)
    except (PydanticSerializationError, UnicodeEncodeError):
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def dump_text(value: Any) -> str:
    """JSON as a string value inside an answer; keeps lone surrogates as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
