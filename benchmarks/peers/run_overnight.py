"""overnight, client and worker in one process: `run_overnight.py submit|collect COUNT FOLDER`."""

import asyncio
import logging
import sys
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[2]))

from activities import Services
from overnight import Outcome, Overnight, RawRequest
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.temporal import connect_temporal
from worker import compose


def requests(count: int) -> list[RawRequest]:
    return [
        RawRequest(
            body={
                "model": "gpt-5.4-mini",
                "messages": [{"role": "user", "content": f"Is this a good review? {number}. " * 12}],
                "max_completion_tokens": 1024,
            }
        )
        for number in range(count)
    ]


async def submit(overnight: Overnight, count: int, note: Path) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", endpoint="/v1/chat/completions")
    await batch.add_all(requests(count))
    await batch.submit()
    while (await batch.get()).provider_batch_id is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    note.write_text(str(batch.id))  # noqa: ASYNC240


async def collect(overnight: Overnight, count: int, note: Path) -> None:
    batch = overnight.batch(UUID(note.read_text()))  # noqa: ASYNC240
    await batch.poll_now()
    finished = await batch.wait()
    assert finished.outcomes == {Outcome.SUCCEEDED: count}


async def main(phase: str, count: int, folder: Path) -> None:
    logging.basicConfig(level=logging.ERROR)
    settings = Settings.from_environment()
    store, temporal = Store.from_settings(settings), await connect_temporal(settings)
    services = Services(settings, Store.from_settings(settings))
    async with compose(temporal, services):
        overnight = Overnight(settings=settings, store=store, temporal=temporal)
        await (submit if phase == "submit" else collect)(overnight, count, folder / "batch")
    await services.aclose()
    await store.aclose()
    await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
