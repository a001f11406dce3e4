"""Text from outside, made fit for where it goes."""

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def storable(text: str) -> str:
    """Text that PostgreSQL takes: its `text` type holds neither NUL characters nor lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def visible(text: str) -> str:
    """Text for a terminal: what could move its cursor, set its title or turn the direction of its letters, as JSON
    escapes it. Line feeds and tabs stay. Within JSON text the escapes mean the same characters.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
