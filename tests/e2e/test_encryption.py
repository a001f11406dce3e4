"""With codec keys set, Temporal holds ciphertext: arguments, results, summaries, details and failures."""

import base64
import os

import pytest
from pydantic import SecretStr
from temporalio.client import Client

from overnight.client import Overnight
from overnight.codec import data_converter
from overnight.contracts import workflow_id
from overnight.embedded import EmbeddedTemporal
from overnight.intake import RawRequest
from overnight.settings import Settings

MODEL = "gpt-5.4-mini"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    key = base64.b64encode(os.urandom(32)).decode()
    # Search attributes are for Temporal itself to read, and so cannot be encrypted.
    return settings.model_copy(update={"codec_keys": SecretStr(f"k1:{key}"), "search_attributes": False})


@pytest.fixture
async def temporal(temporal_server: EmbeddedTemporal, settings: Settings) -> Client:
    return await Client.connect(temporal_server.address, data_converter=data_converter(settings))


async def finished_history(overnight: Overnight) -> str:
    batch = await overnight.create_batch(provider="openai", model=MODEL)
    await batch.add(RawRequest(body={"model": MODEL, "input": "hi"}))
    await batch.submit()
    assert (await batch.wait()).status == "ended"
    history = await overnight.temporal.get_workflow_handle(workflow_id(batch.id)).fetch_history()
    return "".join(event.SerializeToString().decode("latin-1") for event in history.events)


async def test_a_batch_runs_with_everything_encrypted_and_its_history_tells_nothing(
    overnight: Overnight, worker: None
) -> None:
    told = await finished_history(overnight)
    assert "binary/encrypted" in told
    for word in (MODEL, "succeeded", "in_progress", "poll_waits", "claim the batch", "run no handler"):
        assert word not in told
