"""Search attributes: registered once, written where the namespace knows them, left out where it does not."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.from_thread import BlockingPortal
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, RemoveSearchAttributesRequest
from temporalio.client import Client

from overnight.attributes import KINDS
from overnight.embedded import EmbeddedTemporal
from overnight.errors import TemporalError
from overnight.temporal_setup import KnownAttributes, register


@pytest.fixture(scope="module")
def bare_server(overnight_portal: BlockingPortal) -> Iterator[EmbeddedTemporal]:
    """A server that nobody has set up."""
    server = EmbeddedTemporal(namespace="bare")
    with overnight_portal.wrap_async_context_manager(server):
        yield server


@pytest.fixture
async def bare(bare_server: EmbeddedTemporal) -> AsyncIterator[Client]:
    client = await Client.connect(bare_server.address, namespace="bare")
    yield client
    await asyncio.sleep(0.05)


async def remove(client: Client, *names: str) -> None:
    request = RemoveSearchAttributesRequest(namespace=client.namespace, search_attributes=names)
    await client.operator_service.remove_search_attributes(request)


async def test_setup_adds_what_is_absent_and_repeats_without_change(bare: Client) -> None:
    assert not await KnownAttributes(None).are_known(bare)
    first, second = await register(bare), await register(bare)

    assert first.search_attributes == dict.fromkeys(KINDS, "added")
    assert second.search_attributes == dict.fromkeys(KINDS, "present")
    assert await KnownAttributes(None).are_known(bare)

    await remove(bare, *KINDS)


async def test_an_attribute_of_another_type_is_refused_and_none_is_used(bare: Client) -> None:
    wrong = {"OvernightStatus": IndexedValueType.INDEXED_VALUE_TYPE_INT}
    await bare.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace="bare", search_attributes=wrong)
    )

    with pytest.raises(TemporalError, match="OvernightStatus that is no Keyword"):
        await register(bare)
    assert not await KnownAttributes(None).are_known(bare)

    await remove(bare, *wrong)


async def test_a_setting_spares_the_question(bare: Client) -> None:
    assert await KnownAttributes(True).are_known(bare)
    assert not await KnownAttributes(False).are_known(bare)


async def test_a_namespace_that_is_not_there_is_no_obstacle_to_a_batch(bare_server: EmbeddedTemporal) -> None:
    nowhere = await Client.connect(bare_server.address, namespace=f"no-{secrets.token_hex(4)}")

    assert not await KnownAttributes(None).are_known(nowhere)


async def test_the_command_says_what_it_did(bare: Client, bare_server: EmbeddedTemporal) -> None:
    async def run(*arguments: str) -> str:
        environment = {**os.environ, "TEMPORAL_ADDRESS": bare_server.address, "TEMPORAL_NAMESPACE": "bare"}
        command = [sys.executable, "-m", "overnight.cli", "temporal", "setup", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        answer, _ = await process.communicate()
        assert process.returncode == 0
        return answer.decode()

    assert "OvernightNeedsAttention (Bool): added" in await run()
    assert json.loads(await run("--json")) == {
        "namespace": "bare",
        "search_attributes": dict.fromkeys(KINDS, "present"),
    }
    await remove(bare, *KINDS)
