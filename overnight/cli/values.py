"""What people type, as values. Each raises ValueError in words, which the command line shows with the option's name."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_PREFIX = re.compile(r"[0-9a-fA-F-]*")
_SHORTEST_PREFIX, _HEX_DIGITS = 4, 32


def batch_id(text: str) -> str:
    """A batch id, or its beginning."""
    digits = len(text.replace("-", ""))
    if not _PREFIX.fullmatch(text) or not _SHORTEST_PREFIX <= digits <= _HEX_DIGITS:
        raise typer.BadParameter(f"{text!r} is no batch id, nor its beginning of at least {_SHORTEST_PREFIX} digits.")
    return text


def is_batch(text: str) -> bool:
    """Whether a batch is meant, and no file: a file of that name comes first."""
    if Path(text).exists():
        return False
    try:
        batch_id(text)
    except typer.BadParameter:
        return False
    return True


def key(text: str) -> str:
    """What names a batch. An empty one is an unset variable of a script, and would name the batches of all nights."""
    if not text:
        raise typer.BadParameter("A key is not empty.")
    return text


def dollars(text: str) -> Decimal:
    """An amount that is not negative, with or without its sign."""
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no amount of US dollars. Write 12 or 12.50.")
    return amount


def duration(text: str) -> timedelta:
    """A number and its unit: 90s, 30m, 26h, 7d, 2w."""
    if not (found := _DURATION.fullmatch(text.strip())):
        raise typer.BadParameter(f"{text!r} is no duration. Write 90s, 30m, 26h, 7d or 2w.")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def since(text: str) -> datetime:
    """A moment, or how long ago it was. Without a zone it is the local one, as people mean it."""
    if _DURATION.fullmatch(text.strip()):
        return datetime.now(UTC) - duration(text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment. Write 24h, 7d, 2026-11-22 or 2026-11-22T06:00Z.") from None


def metadata(parts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, where the value is a text, or a JSON object; later ones win."""
    found: dict[str, Any] = {}
    for part in parts:
        found |= _json_object(part) if part.lstrip().startswith("{") else _pair(part)
    return found


def _pair(part: str) -> dict[str, Any]:
    key, equals, value = part.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{part!r} is neither KEY=VALUE nor a JSON object.", param_hint="--metadata")
    return {key: value}


def _json_object(part: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(part)
    except ValueError as error:
        raise typer.BadParameter(f"The JSON cannot be read: {error}.", param_hint="--metadata") from None
    return value
