"""With OVERNIGHT_DELETE_AT_PROVIDER nothing of a batch stays at the provider once its handler has run."""

from typing import Any

import httpx
import pytest

from overnight.batches import BatchStatus
from overnight.client import Overnight
from overnight.intake import RawRequest
from overnight.settings import Settings
from overnight.simulator.serve import Running

OPENAI = {"model": "gpt-5.4-mini", "input": "hi"}
ANTHROPIC = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update={"delete_at_provider": request.param})


async def finished(overnight: Overnight, provider: str, body: dict[str, Any]) -> str:
    batch = await overnight.create_batch(provider=provider, model=body["model"])
    await batch.add(RawRequest(body=body))
    await batch.submit()
    over = await batch.wait()
    assert (over.status, dict(over.outcomes)) == (BatchStatus.ENDED, {"succeeded": 1})
    assert over.provider_batch_id is not None
    return over.provider_batch_id


async def kept_files(simulator: Running) -> int:
    async with httpx.AsyncClient(headers={"authorization": "Bearer sk-test-openai"}) as client:
        return len((await client.get(f"{simulator.openai_base_url}/files")).json()["data"])


async def knows_batch(simulator: Running, provider_batch_id: str) -> bool:
    headers = {"x-api-key": "sk-test-anthropic", "anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(headers=headers) as client:
        url = f"{simulator.anthropic_base_url}/v1/messages/batches/{provider_batch_id}"
        return (await client.get(url)).is_success


@pytest.mark.parametrize(("settings", "kept"), [(False, 2), (True, 0)], indirect=["settings"])
async def test_openai_files_are_kept_unless_they_are_to_be_deleted(
    overnight: Overnight, worker: None, simulator: Running, kept: int
) -> None:
    await finished(overnight, "openai", OPENAI)
    assert await kept_files(simulator) == kept


@pytest.mark.parametrize(("settings", "known"), [(False, True), (True, False)], indirect=["settings"])
async def test_an_anthropic_batch_is_kept_unless_it_is_to_be_deleted(
    overnight: Overnight, worker: None, simulator: Running, known: Any
) -> None:
    provider_batch_id = await finished(overnight, "anthropic", ANTHROPIC)
    assert await knows_batch(simulator, provider_batch_id) is known
