"""A namespace that knows our search attributes."""

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client

from overnight.attributes import KINDS


async def know_attributes(client: Client) -> None:
    """The test server takes them twice."""
    keys = {name: getattr(IndexedValueType, f"INDEXED_VALUE_TYPE_{kind.upper()}") for name, kind in KINDS.items()}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=keys)
    )
