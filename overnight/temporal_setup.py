"""Search attributes in a namespace: registering them, and asking whether they are."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from overnight.attributes import KINDS
from overnight.errors import TemporalError
from overnight.log_events import LogEvent

logger = logging.getLogger(__name__)

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Bool": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
}

_ASK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What `register` found and did: name to "added" or "present"."""

    namespace: str
    search_attributes: Mapping[str, str]


async def register(client: Client) -> Registered:
    """Make our search attributes known to the client's namespace. Repeating it changes nothing.

    Raises:
        TemporalError: we may not, or one of the names has another type there.
    """
    try:
        known = await _known(client)
        _check_types(client.namespace, known)
        absent = {name: _TYPES[kind] for name, kind in KINDS.items() if name not in known}
        if absent:
            await _add(client, absent)
    except RPCError as error:
        raise TemporalError(
            f"Search attributes cannot be registered in namespace {client.namespace!r}: {error.message}. Where only an "
            f"administrator may, have them register {_wanted()}, then set OVERNIGHT_SEARCH_ATTRIBUTES=true for workers "
            f"that may not ask either."
        ) from None
    done = {name: "added" if name in absent else "present" for name in KINDS}
    return Registered(namespace=client.namespace, search_attributes=done)


async def _known(client: Client) -> Mapping[str, IndexedValueType.ValueType]:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    return dict((await client.operator_service.list_search_attributes(request)).custom_attributes)


async def _add(client: Client, absent: Mapping[str, IndexedValueType.ValueType]) -> None:
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=absent)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:  # another setup was quicker
            raise


def _check_types(namespace: str, known: Mapping[str, IndexedValueType.ValueType]) -> None:
    for name, kind in KINDS.items():
        if known.get(name, _TYPES[kind]) != _TYPES[kind]:
            raise TemporalError(
                f"Namespace {namespace!r} has a search attribute {name} that is no {kind}. Remove it, or set "
                f"OVERNIGHT_SEARCH_ATTRIBUTES=false and do without ours."
            )


def _wanted() -> str:
    return ", ".join(f"{name}={kind}" for name, kind in KINDS.items())


class KnownAttributes:
    """Whether workflows may set them. Yes is remembered; no is asked again after a minute, for setup may come late.

    Args:
        told: the setting, which spares the question.
    """

    def __init__(self, told: bool | None) -> None:  # noqa: FBT001 - one value, not a switch
        self._told = told
        self._ask_at = 0.0

    async def are_known(self, client: Client) -> bool:
        """Whether all of them are registered with the right types; False as well where we may not ask."""
        if self._told is not None:
            return self._told
        if monotonic() < self._ask_at:
            return False
        self._ask_at = monotonic() + _ASK_AGAIN_SECONDS
        try:
            known = await _known(client)
        except RPCError as error:
            logger.info(
                "search attributes are left out: the namespace cannot be asked for them: %s",
                error.message,
                extra={"event": LogEvent.SEARCH_ATTRIBUTES_LEFT_OUT},
            )
            return False
        if all(known.get(name) == _TYPES[kind] for name, kind in KINDS.items()):
            self._told = True
        else:
            logger.info(
                "search attributes are left out: run `overnight temporal setup` to have them",
                extra={"event": LogEvent.SEARCH_ATTRIBUTES_LEFT_OUT},
            )
        return bool(self._told)
