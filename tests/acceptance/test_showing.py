"""`overnight list` and `overnight show` against a database that batches live in."""

import asyncio
import json
from typing import Any

import pytest

from overnight import BatchStatus
from overnight.cli import main
from overnight.storage.store import Store
from tests.integration.rows import accepted, block, filled, over, result

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def _environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERNIGHT_DATABASE_URL", database_url)


async def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints. It has an event loop of its own, and so a thread of its own here."""
    assert await asyncio.to_thread(main, [*arguments]) == 0
    return capsys.readouterr().out


async def test_no_batches_are_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(capsys, "list") == "There are no batches.\n"
    assert json.loads(await printed(capsys, "list", "--json")) == []


async def test_every_batch_is_a_row_with_its_provider_status_and_outcomes(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await over(store, 3)
    await store.results.write(ended, block([result(1), result(2)], to=9))
    await store.results.finish(ended, price_version="v")
    rows = {
        await filled(store, provider="anthropic"): ["anthropic", "pending"],
        await accepted(store): ["openai", "in_progress"],
        await over(store, status=BatchStatus.FAILED): ["openai", "failed"],
        ended: ["openai", "ended", "2 succeeded", "1 missing"],
    }

    _, *lines = (await printed(capsys, "list")).splitlines()

    found = {line.split()[0]: line for line in lines}
    assert set(found) == {str(batch_id) for batch_id in rows}
    for batch_id, words in rows.items():
        assert all(word in found[str(batch_id)] for word in words)


async def failed(store: Store, reason: str, error: str) -> str:
    batch_id = await over(store, status=BatchStatus.FAILED, failure_code="checks", failure_reason=reason)
    await store.batches.record_error(batch_id, error)
    return str(batch_id)


async def test_a_failed_batch_is_shown_with_both_texts_of_its_failure(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = await failed(store, "line 3: no such model", "LookupError: 7")

    shown = facts(await printed(capsys, "show", batch_id))
    document = json.loads(await printed(capsys, "show", batch_id, "--json"))

    assert (shown["batch"], shown["status"], shown["entries"]) == (batch_id, "failed", "3")
    assert (shown["failure"], shown["last error"]) == ("line 3: no such model", "LookupError: 7")
    assert (document["failure_code"], document["failure_reason"]) == ("checks", "line 3: no such model")
    assert document["metadata"] == {"who": "test"}


async def test_the_texts_of_a_failure_are_shown_as_they_are_whatever_brackets_they_hold(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ("no such [bold] model :smile:", "LookupError: [/entry] 7")
    batch_id = await failed(store, *texts)

    shown = facts(await printed(capsys, "show", batch_id))

    assert (shown["failure"], shown["last error"]) == texts


def facts(text: str) -> dict[str, Any]:
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {name.strip(): value.strip() for name, value in pairs}
