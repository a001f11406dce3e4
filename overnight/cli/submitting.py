"""`overnight submit`: a file becomes a batch, whole or not at all, and is handed over."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from overnight.batches import Batch, Outcome
from overnight.cli.batches import as_document, print_batch
from overnight.cli.ending import DONE, Interrupted, code_of
from overnight.cli.estimating import estimating_batch, estimating_file
from overnight.cli.input import InputFile, load_users_modules, options_of
from overnight.cli.printing import print_json, remark, say
from overnight.cli.watching import beside, follow
from overnight.client import BatchHandle, Overnight, to_be_filled
from overnight.errors import TemporalError, UsageError
from overnight.ids import new_batch_id
from overnight.intake import room
from overnight.keys import Keys
from overnight.providers import provider_facts
from overnight.registering import check_key, new_batch
from overnight.settings import Settings
from overnight.storage.batches import NewBatch

_LOOK_SECONDS = 1.0
_NOTHING_WRITTEN = "nothing was written, sent or paid."


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be submitted, and how.

    Attributes:
        modules: the user's, with the Task and the handler.
        chosen: provider, model and endpoint, as far as the command names them.
        options: further options of the batch, by the names that `BatchOptions` has for them.
        key: names the batch, as for `Overnight.create_batch`.
    """

    file: str
    form: str | None
    task: str | None
    modules: Sequence[str]
    chosen: dict[str, str | None]
    options: dict[str, Any]
    key: str | None = None


async def submitting(order: Order, *, dry_run: bool = False, wait: bool = False, as_json: bool) -> int:
    """Create a batch of a file, hand it over, and with `wait` see it through; or only check and estimate the file."""
    with _nothing_written():
        file = _opened(order)
        new = await _checked(file, order, Settings.from_environment())
        if dry_run:
            await estimating_file(file, new, as_json=as_json)
            return DONE
    async with Overnight.connect() as overnight:
        with _nothing_written():
            handle = await _filled(overnight, file, new)
        await _hand_over_or_discard(overnight, handle, new.filling_token)
        return await _handed_over(overnight, handle, wait=wait, as_json=as_json)


@contextmanager
def _nothing_written() -> Iterator[None]:
    try:
        yield
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Interrupted(_NOTHING_WRITTEN) from None


def _opened(order: Order) -> InputFile:
    load_users_modules(order.modules)
    return InputFile(order.file, form=order.form, task=order.task)


async def _checked(file: InputFile, order: Order, settings: Settings) -> NewBatch:
    options = options_of(file.chosen(**order.chosen), order.options)
    new = Keys(None).named(new_batch(options, new_batch_id(), settings), order.key)
    await check_key(new.provider, settings)
    return new


async def _filled(overnight: Overnight, file: InputFile, new: NewBatch) -> BatchHandle:
    await overnight.store.entries.create_filled(new, file.entries(new), room(provider_facts(new.provider)))
    batch = await overnight.store.batches.get(new.id)
    if batch.sealed_at is not None:
        remark(f"Batch {batch.id} of this key was handed over before. Nothing is added to it.")
    return to_be_filled(overnight, batch, new.filling_token)


async def _hand_over_or_discard(overnight: Overnight, handle: BatchHandle, filling_token: UUID | None = None) -> None:
    """A batch that this command made, and that cannot be handed over, goes again."""
    try:
        await handle.submit()
    except (UsageError, asyncio.CancelledError) as end:
        if not await overnight.store.batches.discard(handle.id, filling_token=filling_token):
            raise
        if isinstance(end, asyncio.CancelledError):
            raise Interrupted(_NOTHING_WRITTEN) from None
        remark(f"Batch {handle.id} was not handed over, and is deleted again.")
        raise
    except TemporalError:
        # Its workflow may have begun all the same, so the batch stays; the same file once more would be a second one.
        remark(f"Batch {handle.id} has the entries. Do not submit them anew: overnight submit --batch {handle.id}")
        raise


async def submitting_batch(batch_id: str, *, dry_run: bool = False, wait: bool = False, as_json: bool) -> int:
    """Hand over a batch that has its entries already; or only estimate it."""
    if dry_run:
        await estimating_batch(batch_id, as_json=as_json)
        return DONE
    async with Overnight.connect() as overnight:
        handle = overnight.batch(await overnight.store.listings.resolve(batch_id))
        await handle.submit()
        return await _handed_over(overnight, handle, wait=wait, as_json=as_json)


async def retrying(batch_id: str, *, outcomes: Collection[Outcome], submit: bool, as_json: bool) -> None:
    """Make a batch of what another one did not get done, and hand it over."""
    async with Overnight.connect() as overnight:
        parent = await overnight.store.listings.resolve(batch_id)
        handle = await overnight.retry(parent, outcomes=outcomes)
        if submit:
            await _hand_over_or_discard(overnight, handle)
        batch = await handle.get()
    if as_json:
        print_json(as_document(batch))
        return
    say(f"Batch {batch.id} retries {batch.entry_count} entries of batch {parent}.")
    next_step = f"watch {batch.id}` shows how it goes" if submit else f"submit --batch {batch.id}` hands it over"
    say(f"`overnight {next_step}.")


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
