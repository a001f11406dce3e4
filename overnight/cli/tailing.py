"""`overnight tail`: result lines that are no entry's result."""

import asyncio
from typing import Any
from uuid import UUID

from overnight.cli.database import open_store
from overnight.cli.ending import Interrupted
from overnight.cli.printing import print_json_line, remark, say
from overnight.storage.store import Store
from overnight.storage.strays import StrayResult

_SHOWN = 160
_LOOK_SECONDS = 2.0


async def tailing(batch_id: str, *, follow: bool, as_json: bool) -> None:
    """Print the stray results of a batch, and with `follow` those to come until its results are ingested."""
    try:
        async with open_store() as store:
            count = await _tail(store, await store.listings.resolve(batch_id), follow=follow, as_json=as_json)
    except asyncio.CancelledError:
        raise Interrupted("the batch goes on by itself.") from None
    if not count and not as_json:
        remark("There are no stray results.")


async def _tail(store: Store, batch_id: UUID, *, follow: bool, as_json: bool) -> int:
    count, after = 0, ()
    while True:
        # Asked before the lines are read: none comes after it.
        over = (await store.batches.get(batch_id)).ingested_at is not None
        async for page in store.strays.pages(batch_id, after=after):
            for stray in page:
                print_json_line(_document(stray)) if as_json else say(_line(stray))
            count, after = count + len(page), page[-1].place
        if over or not follow:
            return count
        await asyncio.sleep(_LOOK_SECONDS)


def _text(stray: StrayResult) -> str:
    return stray.line.decode("utf-8", "replace")


def _document(stray: StrayResult) -> dict[str, Any]:
    return {
        "received_at": stray.received_at.isoformat(),
        "kind": stray.kind,
        "custom_id": stray.custom_id,
        "source": stray.source,
        "bytes": stray.size,
        "text": _text(stray),
    }


def _line(stray: StrayResult) -> str:
    text = " ".join(_text(stray).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({stray.size} bytes)"
    return f"{stray.received_at:%Y-%m-%d %H:%M:%S}  {stray.kind:<9}  {stray.custom_id or '-'}  {shown}"
