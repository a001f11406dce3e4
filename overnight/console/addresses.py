"""What is in a page's address: filters and places, read with care and written by one hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

from starlette.datastructures import QueryParams

from overnight.batches import BatchStatus, Outcome
from overnight.errors import UsageError
from overnight.storage.console_values import BatchChoice, Edge, ListedBatch, ListedCampaign, Place, StrayPlace

_LAST_POSITION = 2**31 - 1
_LAST_BYTE = 2**63 - 1
_LAST_ROUND = 2**15 - 1
_DAYS = (7, 30, 90, 365)

WordT = TypeVar("WordT", BatchStatus, Outcome)


class AddressError(UsageError):
    """An address that was changed by hand, and makes no sense."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The address has a {name!r} that makes no sense. Start again from a list.")


def _word(kind: type[WordT], name: str, value: str | None) -> WordT | None:
    try:
        return kind(value) if value else None
    except ValueError:
        raise AddressError(name) from None


def _storable(name: str, value: str | None) -> str | None:
    if value and "\x00" in value:  # no text in Postgres holds one
        raise AddressError(name)
    return value or None


def choice_of(query: QueryParams) -> BatchChoice:
    """Which batches, or campaigns, are wanted.

    Raises:
        AddressError: a word that is no status.
    """
    names = {name: _storable(name, query.get(name)) for name in ("provider", "model", "handler")}
    return BatchChoice(
        status=_word(BatchStatus, "status", query.get("status")),
        open=query.get("only") == "open",
        troubled=query.get("only") == "troubled",
        **names,
    )


def choice_query(choice: BatchChoice) -> dict[str, str]:
    """The same as part of an address."""
    only = "troubled" if choice.troubled else "open" if choice.open else None
    chosen = {"status": choice.status, "provider": choice.provider, "model": choice.model, "handler": choice.handler}
    return {name: str(value) for name, value in {**chosen, "only": only}.items() if value}


def edge_of(query: QueryParams) -> Edge | None:
    """Where the page of batches, or of campaigns, begins.

    Raises:
        AddressError: it names none.
    """
    for name in ("older", "newer"):
        if given := query.get(name):
            at, _, batch_id = given.partition("~")
            try:
                edge = Edge(datetime.fromisoformat(at), UUID(batch_id), backwards=name == "newer")
            except ValueError:
                raise AddressError(name) from None
            if edge.at.tzinfo is None:
                raise AddressError(name)
            return edge
    return None


def edge_text(subject: ListedBatch | ListedCampaign) -> str:
    """A batch or campaign as the edge of a page."""
    return f"{subject.created_at.isoformat()}~{subject.id}"


def _integer(name: str, value: str, limit: int) -> int:
    if not (value.isascii() and value.isdecimal()) or len(value) > len(str(limit)) or int(value) > limit:
        raise AddressError(name)
    return int(value)


def place_of(query: QueryParams) -> Place:
    """Where the page of entries, or of a campaign's batches, begins.

    Raises:
        AddressError: that is no position.
    """
    for name in ("after", "before"):
        if given := query.get(name):
            return Place(_integer(name, given, _LAST_POSITION), backwards=name == "before")
    return Place()


def position_of(given: str) -> int:
    """Which entry of a batch.

    Raises:
        AddressError: that is no position.
    """
    return _integer("position", given, _LAST_POSITION)


def round_of(query: QueryParams) -> int | None:
    """Which round of a campaign is wanted.

    Raises:
        AddressError: that is no number.
    """
    given = query.get("round")
    return _integer("round", given, _LAST_ROUND) if given else None


def outcome_of(query: QueryParams) -> Outcome | None:
    """Which entries are wanted.

    Raises:
        AddressError: a word that is no outcome.
    """
    return _word(Outcome, "outcome", query.get("outcome"))


def stray_place_of(given: str | None) -> StrayPlace | None:
    """Which stray line.

    Raises:
        AddressError: that is none.
    """
    if not given:
        return None
    source, *numbers = given.rsplit("~", 2)
    if len(numbers) != 2:
        raise AddressError("line")
    ends_at, number = (
        _integer("line", text, limit) for text, limit in zip(numbers, (_LAST_BYTE, _LAST_POSITION), strict=True)
    )
    return StrayPlace(_storable("line", source) or "", ends_at, number)


def stray_text(place: StrayPlace) -> str:
    """The same as part of an address."""
    return f"{place.source}~{place.ends_at}~{place.number}"


def days_of(query: QueryParams) -> int:
    """How far back costs are shown.

    Raises:
        AddressError: not one of the lengths that there are.
    """
    days = _integer("days", query.get("days") or "30", max(_DAYS))
    if days not in _DAYS:
        raise AddressError("days")
    return days


def address(path: str, query: Mapping[str, object] | None = None, /, **more: object) -> str:
    """A link within the console."""
    given = {name: value for name, value in {**(query or {}), **more}.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True, kw_only=True)
class TemporalUi:
    """Where Temporal's UI shows workflows."""

    base_url: str
    namespace: str

    def workflow(self, workflow_id: str) -> str:
        """The page of one."""
        namespace, workflow = quote(self.namespace, safe=""), quote(workflow_id, safe="")
        return f"{self.base_url.rstrip('/')}/namespaces/{namespace}/workflows/{workflow}"
