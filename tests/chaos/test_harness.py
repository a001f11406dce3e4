"""The harness itself: a test that waits in vain must fail, and say what for."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos import harness
from tests.chaos.harness import Servers, running_system


async def test_who_waits_in_vain_is_told_how_everything_stands(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_system(tmp_path, servers=servers) as system:
        with pytest.raises(AssertionError, match=r"Nobody came to \['cancel_batch:begin@"):
            await system.submit("openai", die=["fetch_status/begin", "cancel_batch/begin"])

        newest = system.workers[0].log.splitlines()[-1]
        monkeypatch.setattr(harness, "_PATIENCE", timedelta(seconds=0.5))
        with pytest.raises(TimeoutError, match=r"in vain until select 1 where false") as told:
            await system.until("select 1 where false")

    (batch,) = system.batches
    text = str(told.value)
    assert f"{batch.id} openai ended" in text
    assert f"batch-{batch.id}: COMPLETED, pending: []" in text
    assert f"['cancel_batch:begin@{batch.id}']" in text
    assert "whose dead ended with [-9]" in text
    assert newest in text
