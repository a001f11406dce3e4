"""overnight, client and worker in one process, with raw requests."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from same import ENDPOINT, MODEL, body, called

from activities import Services
from overnight import Outcome, Overnight, RawRequest, Task
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import connect_temporal
from worker import compose

Entry = RawRequest | Task[Any]


async def submit(overnight: Overnight, entries: Iterable[Entry], note: Path) -> None:
    batch = await overnight.create_batch(provider="openai", model=MODEL, endpoint=ENDPOINT)
    await batch.add_all(entries)
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    note.write_text(str(batch.id))  # noqa: ASYNC240


async def collect(overnight: Overnight, count: int, note: Path) -> None:
    batch = overnight.batch(UUID(note.read_text()))  # noqa: ASYNC240
    await batch.poll_now()
    finished = await batch.wait()
    assert finished.outcomes == {Outcome.SUCCEEDED: count}, finished.outcomes


async def main(phase: str, count: int, folder: Path, entries: Iterable[Entry]) -> None:
    logging.basicConfig(level=logging.ERROR)
    settings = Settings.from_environment()
    store, temporal = Store.from_settings(settings), await connect_temporal(settings)
    services = Services(settings, Store.from_settings(settings))
    async with compose(temporal, services):
        overnight = Overnight(settings=settings, store=store, temporal=temporal)
        if phase == "submit":
            await submit(overnight, entries, folder / "batch")
        else:
            await collect(overnight, count, folder / "batch")
    await services.aclose()
    await store.aclose()
    await asyncio.sleep(0.05)


def run(entry: Callable[[int], Entry]) -> None:
    phase, count, folder = called()
    asyncio.run(main(phase, count, folder, map(entry, range(count))))


if __name__ == "__main__":
    run(lambda number: RawRequest(body=body(number)))
