"""Cursors over lists, in both providers' dialects."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from overnight.simulator.errors import ApiError


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=_HasId)


def read_limit(query: Mapping[str, str], *, default: int, most: int) -> int:
    given = query.get("limit", str(default))
    if not given.lstrip("-").isdigit():
        raise ApiError(f"Invalid 'limit': expected an integer, got '{given}'.", param="limit", code="invalid_type")
    if not 1 <= int(given) <= most:
        message = f"Invalid 'limit': expected a value between 1 and {most}, but got {given} instead."
        raise ApiError(message, param="limit", code="invalid_value")
    return int(given)


def paged(
    items: Sequence[Item], limit: int, *, after: str | None = None, before: str | None = None
) -> tuple[list[Item], bool]:
    """A page, and whether more lies beyond it. A cursor that names nothing is an error.

    `before` walks the other way: its page is the one that ends right before the cursor.
    """
    if before:
        earlier = items[: _place(items, before, "before_id")]
        return list(earlier[-limit:]), len(earlier) > limit
    later = items[_place(items, after, "after") + 1 :] if after else items
    return list(later[:limit]), len(later) > limit


def _place(items: Sequence[Item], cursor: str, name: str) -> int:
    found = next((n for n, item in enumerate(items) if item.id == cursor), None)
    if found is None:
        raise ApiError(f"No object with id '{cursor}' to continue from.", param=name, code="invalid_value")
    return found
