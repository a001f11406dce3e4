"""Steps whose ground changes under them: a batch is closed while it is created, or created while it is canceled."""

import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities import Services
from activities.cancel import CancelActivities
from activities.submit import SubmitActivities
from overnight import BatchStatus, Overnight, Settings, Task
from overnight.contracts import BatchRef
from overnight.providers.base import EntryLines, ProviderReport, Submission
from overnight.providers.openai import OpenAI
from overnight.simulator.serve import Running


class Word(Task[str], name="behind-word"):
    word: str

    def prompt(self) -> str:
        return self.word


@pytest.fixture
async def services(settings: Settings, overnight: Overnight) -> AsyncIterator[Services]:
    services = Services(settings, overnight.store)
    yield services
    for provider in services._providers.values():
        await provider.aclose()


async def sealed(overnight: Overnight) -> UUID:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    await batch.add(Word(word="hello"))
    await overnight.store.batches.seal(batch.id)
    return batch.id


def statuses(simulator: Running) -> list[str]:
    request = urllib.request.Request(f"{simulator.openai_base_url}/batches", headers={"authorization": "Bearer sk"})
    with urllib.request.urlopen(request) as answer:
        return [batch["status"] for batch in json.load(answer)["data"]]


async def run(step: Any, batch_id: UUID) -> Any:
    return await ActivityEnvironment().run(step, BatchRef(batch_id=batch_id))


async def test_what_was_created_for_a_batch_that_was_closed_meanwhile_is_canceled(
    overnight: Overnight, services: Services, settings: Settings, simulator: Running
) -> None:
    batch_id = await sealed(overnight)

    class ClosedMeanwhile(OpenAI):
        async def create(self, submission: Submission, lines: EntryLines) -> ProviderReport:
            report = await super().create(submission, lines)
            await overnight.store.batches.close(batch_id, BatchStatus.CANCELED, code="canceled", reason="elsewhere")
            return report

    services._providers["openai"] = ClosedMeanwhile.from_settings(settings)
    await run(SubmitActivities(services).create_provider_batch, batch_id)

    assert [status.startswith("cancel") for status in statuses(simulator)] == [True]


async def test_a_cancel_that_waited_for_a_create_cancels_what_the_create_made(
    overnight: Overnight, services: Services, simulator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await sealed(overnight)
    alone = overnight.store.submissions.alone

    @asynccontextmanager
    async def after_a_create(batch_id: UUID) -> AsyncIterator[None]:
        monkeypatch.setattr(overnight.store.submissions, "alone", alone)
        await run(SubmitActivities(services).create_provider_batch, batch_id)
        async with alone(batch_id):
            yield

    monkeypatch.setattr(overnight.store.submissions, "alone", after_a_create)
    await run(CancelActivities(services).cancel_batch, batch_id)

    batch = await overnight.store.batches.get(batch_id)
    assert batch.provider_batch_id is not None
    assert not batch.status.is_terminal
    assert [status.startswith("cancel") for status in statuses(simulator)] == [True]
