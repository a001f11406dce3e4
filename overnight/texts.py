"""Text from outside, made fit for where it goes, and ours as people say it."""

import re
from datetime import timedelta

from pydantic import ValidationError

MAX_TOLD = 2000

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def duration(length: timedelta) -> str:
    """As people say it: "45s", "5m", "1h 30m"."""
    seconds = round(length.total_seconds())
    if seconds < 60:
        return f"{length.total_seconds():.3g}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds}s" if seconds else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if minutes else f"{hours}h"


def storable(text: str) -> str:
    """Text that PostgreSQL takes: its `text` type holds neither NUL characters nor lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def visible(text: str) -> str:
    """Text for a terminal: what could move its cursor, set its title or turn the direction of its letters, as JSON
    escapes it. Line feeds and tabs stay. Within JSON text the escapes mean the same characters.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def told(error: Exception) -> str:
    """What the user's own code raised, as text for the database. Even its text may raise."""
    try:
        return storable(f"{type(error).__name__}: {error}")[:MAX_TOLD]
    except Exception:  # noqa: BLE001 - the error is the user's own, and so is its text
        return type(error).__name__


def first_errors(error: ValidationError) -> str:
    """What did not fit, field by field; the values stay out of it, for they are the model's words."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    shown = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in items[:3])
    return shown + (f"; and {len(items) - 3} more" if len(items) > 3 else "")
