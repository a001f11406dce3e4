"""`overnight submit`: a file becomes a batch, whole or not at all, and is handed over."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overnight.batches import Batch
from overnight.cli.batches import as_document, print_batch
from overnight.cli.ending import DONE, Interrupted, code_of
from overnight.cli.input import InputFile, load_users_modules, options_of
from overnight.cli.printing import print_json, say
from overnight.cli.watching import beside, follow
from overnight.client import BatchHandle, Overnight
from overnight.errors import UsageError
from overnight.ids import new_batch_id
from overnight.intake import room
from overnight.providers import provider_facts
from overnight.registering import check_key, new_batch
from overnight.settings import Settings
from overnight.storage.batches import NewBatch
from overnight.storage.entries import Filling

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be submitted, and how.

    Attributes:
        modules: the user's, with the Task and the handler.
        chosen: provider, model and endpoint, as far as the command names them.
        options: further options of the batch, by the names that `BatchOptions` has for them.
    """

    file: str
    form: str | None
    task: str | None
    modules: Sequence[str]
    chosen: dict[str, str | None]
    options: dict[str, Any]


async def submitting(order: Order, *, wait: bool, as_json: bool) -> int:
    """Create a batch of a file, hand it over, and with `wait` see it through."""
    nothing = Interrupted("nothing was written, sent or paid.")
    file = _opened(order)
    async with Overnight.connect() as overnight:
        try:
            new = await _checked(file, order, overnight.settings)
            await overnight.store.entries.create_filled(new, file.entries(new), room(provider_facts(new.provider)))
        except asyncio.CancelledError:
            raise nothing from None
        handle = overnight.batch(new.id)
        try:
            await handle.submit()
        except (UsageError, asyncio.CancelledError) as end:
            if await overnight.store.batches.discard(new.id) and isinstance(end, asyncio.CancelledError):
                raise nothing from None
            raise
        return await _handed_over(overnight, handle, wait=wait, as_json=as_json)


def _opened(order: Order) -> InputFile:
    load_users_modules(order.modules)
    return InputFile(order.file, form=order.form, task=order.task)


async def _checked(file: InputFile, order: Order, settings: Settings) -> NewBatch:
    options = options_of(file.chosen(**order.chosen), order.options)
    new = new_batch(options, new_batch_id(), settings)
    await check_key(new.provider, settings)
    return new


async def submitting_batch(batch_id: str, *, wait: bool, as_json: bool) -> int:
    """Hand over a batch that has its entries already."""
    async with Overnight.connect() as overnight:
        handle = overnight.batch(await overnight.store.listings.resolve(batch_id))
        await handle.submit()
        return await _handed_over(overnight, handle, wait=wait, as_json=as_json)


async def _handed_over(overnight: Overnight, handle: BatchHandle, *, wait: bool, as_json: bool) -> int:
    if not wait:
        batch = await handle.get()
        if as_json:
            print_json(as_document(batch))
        else:
            say(f"Batch {batch.id} of {batch.entry_count} entries is handed over.")
            say(f"`overnight watch {batch.id}` shows how it goes.")
        return DONE
    try:
        batch = await _seen_through(overnight, handle)
    except asyncio.CancelledError:
        raise Interrupted(f"batch {handle.id} goes on by itself; `overnight watch {handle.id}` shows how.") from None
    print_batch(batch, as_json=as_json)
    return code_of(batch)


async def _seen_through(overnight: Overnight, handle: BatchHandle) -> Batch:
    """The database says how it comes along, and Temporal when it is over, or when nobody looks after it any more."""
    with beside() as show:
        looking = asyncio.create_task(follow(overnight.store, [handle.id], show, every=_LOOK_SECONDS))
        try:
            batch = await handle.wait()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        show([batch])
        return batch


async def rehearsing(order: Order, *, as_json: bool) -> None:
    """Check a whole file as a submit would, and write nothing."""
    file = _opened(order)
    new = await _checked(file, order, Settings.from_environment())
    filling = Filling(room(provider_facts(new.provider)), entry_count=0, request_bytes=0)
    async for entry in file.entries(new):
        filling.row(new.id, entry)
    found = {"provider": new.provider, "model": new.model, "endpoint": new.endpoint}
    document = found | {"entries": filling.entry_count, "request_bytes": filling.request_bytes}
    if as_json:
        print_json(document)
    else:
        say(f"{file.name}: {filling.entry_count} entries, {filling.request_bytes} bytes, nothing wrong with them.")
        say(f"They are for {new.model}, {new.provider} {new.endpoint}. Nothing was written.")
