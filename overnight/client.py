"""Overnight: the client. Create a batch, fill it, submit it, wait for it or go home."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from temporalio.client import Client

from overnight import contracts
from overnight.batches import ANY_BATCH, RETRIED, Batch, BatchFilter, Entry, OnAmbiguousSubmit, Outcome
from overnight.campaign_contracts import CampaignOptions
from overnight.campaigning import CampaignHandle, created_campaign
from overnight.campaigns import Campaign
from overnight.contracts import BatchOptions, BatchStart, ProgressReport
from overnight.errors import BatchClosedError, OfCampaignError
from overnight.estimates import Estimate, estimate, seal_within_cost
from overnight.handlers import BatchHandler, CampaignHandler, handlers
from overnight.handles import Handle, Submitted
from overnight.ids import new_batch_id
from overnight.intake import Intake, Items, room
from overnight.keys import Keys
from overnight.providers import provider_facts
from overnight.reading import entries
from overnight.registering import check_key, checked, new_batch, new_campaign
from overnight.running import run
from overnight.settings import Settings
from overnight.storage.batches import NewBatch
from overnight.storage.store import Store
from overnight.tasks import Task
from overnight.temporal import connect_temporal
from overnight.wording import details_of, summary_of

OutputT = TypeVar("OutputT")

# A process that exits right after temporalio's last call can crash (sdk-python issue 300); this much later it does not.
_LAST_CALL_SETTLES = 0.05


class BatchHandle(Handle[Batch]):
    """One batch, to be filled, submitted, watched and read."""

    _what = "batch"

    def __init__(self, overnight: "Overnight", batch_id: UUID, *, filling_token: UUID | None = None) -> None:
        super().__init__(overnight, batch_id)
        self._filling_token = filling_token

    async def get(self) -> Batch:
        """The batch as the database knows it now.

        Raises:
            UnknownBatchError: there is no such batch.
        """
        return await self._store.batches.get(self.id)

    async def add_all(self, items: Items, *, custom_id: Callable[[Any], str | None] | None = None) -> int:
        """Add many entries, or, if anything is wrong with any of them, none; returns how many.

        They stream into the database, so `items` can be a generator over more than fits in memory. The batch is
        locked meanwhile: other adds and the submit wait.

        Args:
            items: Tasks or RawRequests, from any iterable, synchronous or asynchronous.
            custom_id: makes each item's custom id; by default it is the Task's name and a number.

        Raises:
            BatchClosedError: the batch was submitted.
            BatchTakenOverError: another process created it again by its key, and fills it.
            BatchTooLargeError: more than the provider takes in one batch.
            CustomIdError: a custom id that the provider would refuse.
            DuplicateCustomIdError: a custom id that is in the batch already.
            RequestError: a request that the provider could not take.
        """
        batch = await self.get()
        facts = provider_facts(batch.provider)
        rendered = Intake(facts, model=batch.model, endpoint=batch.endpoint).entries(items, custom_id)
        return await self._store.entries.add(self.id, rendered, room(facts), filling_token=self._filling_token)

    async def estimate(self) -> Estimate:
        """What the batch will use and cost, from the entries it has by now; nothing is sent for it.

        Raises:
            UnknownBatchError: there is no such batch.
        """
        return await estimate(self._store, await self.get(), self._settings.prices)

    async def submit(self) -> None:
        """Hand the batch over: from here on its workflow looks after it, and no entry can be added.

        When Temporal does not answer, the batch stays handed over; a further call then starts its workflow.

        Raises:
            BatchClosedError: it was submitted already.
            BatchTakenOverError: another process created it again by its key, and fills it.
            CostLimitError: it could cost more than its `max_cost`. It stays pending and can still be added to.
            EmptyBatchError: it has no entries.
            OfCampaignError: a campaign submits its batches itself.
            TemporalError: Temporal does not answer.
        """
        campaign_id = (await self.get()).campaign_id
        if campaign_id is not None:
            raise OfCampaignError(self.id, campaign_id)
        prices = self._settings.prices
        batch, first = await seal_within_cost(self._store, self.id, prices, filling_token=self._filling_token)
        if batch.status.is_terminal:
            raise BatchClosedError(self.id, "submit")
        await self._start(
            contracts.WORKFLOW,
            BatchStart(batch_id=self.id),
            workflow_id=contracts.workflow_id(self.id),
            first=first,
            summary=summary_of(batch),
            details=details_of(batch),
        )

    async def progress(self) -> ProgressReport:
        """What the batch's workflow is doing right now.

        Raises:
            TemporalError: there is no such workflow, or no worker that could answer for it.
        """
        progress: ProgressReport = await self._query(ProgressReport)
        return progress

    async def cancel(self) -> None:
        """Ask for the batch to be canceled. Entries that are answered by then keep their results.

        Raises:
            CancelRefusedError: it was never submitted, or it is over.
            TemporalError: Temporal does not answer.
        """
        await self._store.batches.request_cancel(self.id)
        await self._signal(contracts.CANCEL)

    def _own_workflow_id(self) -> str:
        return contracts.workflow_id(self.id)

    def _stream_entries(
        self, task: type[Task[Any]] | None, outcomes: Collection[Outcome] | None
    ) -> AsyncIterator[Entry[Any]]:
        return entries(self._store, self.id, task, outcomes)


class _Submitted(Submitted[Batch], BatchHandle):
    """Created again by its key."""


def to_be_filled(overnight: "Overnight", batch: Batch, filling_token: UUID | None) -> BatchHandle:
    """A handle on a batch that was created by its key, or found by it: whoever has its token may fill it."""
    if batch.sealed_at is not None:
        return _Submitted(overnight, batch.id)
    return BatchHandle(overnight, batch.id, filling_token=filling_token)


class Overnight:
    """The client: batches in Postgres, their lives in Temporal.

    Args:
        parent: the batch or campaign whose handler this client is for; what it creates follows it.
    """

    def __init__(
        self, *, settings: Settings, store: Store, temporal: Client, parent: Batch | Campaign | None = None
    ) -> None:
        self.settings, self.store, self.temporal = settings, store, temporal
        self._keys = Keys(parent)

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings | None = None) -> AsyncIterator[Self]:
        """Connect to both servers, as the environment says.

        Raises:
            ConfigurationError: a setting is absent or senseless.
            DatabaseError: Postgres does not answer.
            SchemaVersionError: its schema is not this code's; run `overnight db upgrade`.
            TemporalError: Temporal does not answer.
        """
        settings = settings or Settings.from_environment()
        store = Store.from_settings(settings)
        try:
            await store.check()
            yield cls(settings=settings, store=store, temporal=await connect_temporal(settings))
        finally:
            await store.aclose()
            await asyncio.sleep(_LAST_CALL_SETTLES)

    async def create_batch(  # noqa: PLR0913 - everything but provider and model has a default
        self,
        *,
        provider: str,
        model: str,
        endpoint: str | None = None,
        handler: type[BatchHandler] | str | None = None,
        handler_task_queue: str | None = None,
        handler_activity: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        poll_waits: Sequence[timedelta] | None = None,
        max_age: timedelta | None = None,
        max_cost: Decimal | None = None,
        allow_unknown_model: bool = False,
        on_ambiguous_submit: OnAmbiguousSubmit = OnAmbiguousSubmit.WAIT,
        key: str | None = None,
    ) -> BatchHandle:
        """Create an empty, pending batch.

        With a key, code that is run again after a crash makes no second batch: a batch of this key that was submitted
        is returned as it is, and filling and submitting it again changes nothing. One that was not is emptied, to be
        filled anew; should somebody still be filling it, their next call raises.

        Args:
            provider: "openai" or "anthropic".
            model: the model for every entry of the batch.
            endpoint: where requests go at the provider; by default "/v1/responses" or "/v1/messages".
            handler: what runs once the batch is over: a class, or its registered name.
            handler_task_queue: the Temporal task queue of the process that has the handler and the Tasks, when that
                is not the worker that runs the batch. A handler's own is the default for what it creates.
            handler_activity: a Temporal activity on that task queue, in any language, instead of a handler. It gets a
                `BatchSummary`, and runs at least once, with the batch's id as the idempotency key.
            metadata: yours; it stays in the database and is never sent to a provider.
            poll_waits: waits between polls, instead of the deployment's.
            max_age: how long after submission to wait, instead of the deployment's.
            max_cost: US dollars. A batch that could cost more by its estimate, or nobody knows how much, is not
                submitted.
            allow_unknown_model: take a model that the price table does not know; its cost stays unknown.
            on_ambiguous_submit: what to do when it cannot be known for hours whether a create was accepted.
            key: names the batch for good, among those that follow the same parent, or in the whole database. In a
                handler, by default, the first, second, ... batch that the run creates without one.

        Raises:
            UnknownProviderError: no adapter of this name.
            UnknownModelError: the model cannot be batched, or is not in the price table.
            UnknownHandlerError: no such handler.
            MissingKeyError: no API key for the provider.
        """
        options = checked(
            BatchOptions,
            provider=provider,
            model=model,
            endpoint=endpoint,
            handler=handlers.name_of(handler) if isinstance(handler, type) else handler,
            handler_task_queue=handler_task_queue or (None if handler_activity else self._keys.handler_task_queue),
            handler_activity=handler_activity,
            metadata=dict(metadata or {}),
            poll_waits=list(poll_waits) if poll_waits is not None else None,
            max_age=max_age,
            max_cost=max_cost,
            allow_unknown_model=allow_unknown_model,
            on_ambiguous_submit=on_ambiguous_submit,
        )
        new = self._keys.named(new_batch(options, new_batch_id(), self.settings), key)
        await check_key(provider, self.settings)
        return await self._created(new)

    async def _created(self, new: NewBatch) -> BatchHandle:
        if new.filling_token is None:
            await self.store.batches.create(new)
            return self.batch(new.id)
        return to_be_filled(self, await self.store.batches.create_by_key(new), new.filling_token)

    async def run(
        self, task: Task[OutputT], *, provider: str, model: str, endpoint: str | None = None
    ) -> Entry[OutputT]:
        """Have one task answered now, at the provider's normal endpoint and full price; see `overnight.run`.

        Raises:
            UsageError: of the kind that says what is wrong; nothing was sent.
            ProviderError: the provider refuses, or does not answer.
        """
        return await run(task, provider=provider, model=model, endpoint=endpoint, settings=self.settings)

    async def create_campaign(  # noqa: PLR0913 - everything but provider and model has a default
        self,
        *,
        provider: str,
        model: str,
        endpoint: str | None = None,
        handler: type[CampaignHandler] | str | None = None,
        handler_task_queue: str | None = None,
        handler_activity: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        rounds: int = 1,
        retry_invalid: bool = False,
        max_concurrent_batches: int = 10,
        max_batch_entries: int | None = None,
        max_age: timedelta | None = None,
        batch_max_age: timedelta | None = None,
        poll_waits: Sequence[timedelta] | None = None,
        max_cost: Decimal | None = None,
        allow_unknown_model: bool = False,
        on_ambiguous_submit: OnAmbiguousSubmit = OnAmbiguousSubmit.WAIT,
        key: str | None = None,
    ) -> CampaignHandle:
        """Create an empty, pending campaign: any number of entries, in as many batches as the provider needs.

        A key means what it means for a batch: code that is run again makes no second campaign.

        Args:
            provider: "openai" or "anthropic".
            model: the model for every entry.
            endpoint: where requests go at the provider; by default its first one.
            handler: what runs once all batches are over: a `CampaignHandler`, or its registered name.
            handler_task_queue: the Temporal task queue of the process that has the handler and the Tasks, when that
                is not the worker that runs the campaign.
            handler_activity: a Temporal activity on that task queue, in any language, instead of a handler. It gets a
                `CampaignSummary`, and runs at least once, with the campaign's id as the idempotency key.
            metadata: yours; it stays in the database and is never sent to a provider.
            rounds: how often an entry may be asked, the first time included. What expired, got no line, or failed for
                a reason that another try may heal is asked again; what was paid is kept.
            retry_invalid: ask again, too, where the answer did not fit; `Task.repair` says how.
            max_concurrent_batches: how many batches run at once at most; fewer where the provider's queue is full.
            max_batch_entries: make batches smaller than the provider would take them.
            max_age: how long after the submit to wait for the whole; what is not over by then is canceled.
            batch_max_age: how long after its submission to wait for each batch, instead of the deployment's.
            poll_waits: waits between polls of each batch, instead of the deployment's.
            max_cost: US dollars, over all rounds. A campaign whose entries could cost more is not submitted; a further
                round that could exceed what is left is skipped, and the campaign ends with what it has.
            allow_unknown_model: take a model that the price table does not know; its cost stays unknown.
            on_ambiguous_submit: as for a batch.
            key: as for a batch. Campaigns have keys, and numbers in a handler, of their own.

        Raises:
            UnknownProviderError: no adapter of this name.
            UnknownModelError: the model cannot be batched, or is not in the price table.
            UnknownHandlerError: no such campaign handler.
            MissingKeyError: no API key for the provider.
        """
        options = checked(
            CampaignOptions,
            provider=provider,
            model=model,
            endpoint=endpoint,
            handler=handlers.name_of(handler) if isinstance(handler, type) else handler,
            handler_task_queue=handler_task_queue or (None if handler_activity else self._keys.handler_task_queue),
            handler_activity=handler_activity,
            metadata=dict(metadata or {}),
            rounds=rounds,
            retry_invalid=retry_invalid,
            max_concurrent_batches=max_concurrent_batches,
            max_batch_entries=max_batch_entries,
            campaign_max_age=max_age,
            max_age=batch_max_age,
            poll_waits=list(poll_waits) if poll_waits is not None else None,
            max_cost=max_cost,
            allow_unknown_model=allow_unknown_model,
            on_ambiguous_submit=on_ambiguous_submit,
        )
        new = self._keys.named(new_campaign(options, new_batch_id(), self.settings), key)
        await check_key(provider, self.settings)
        return await created_campaign(self, new)

    def campaign(self, campaign_id: UUID) -> CampaignHandle:
        """A handle on a campaign that exists."""
        return CampaignHandle(self, campaign_id)

    async def campaigns(self, *, limit: int = 100) -> list[Campaign]:
        """The newest campaigns first."""
        return await self.store.campaigns.recent(limit=limit)

    def batch(self, batch_id: UUID) -> BatchHandle:
        """A handle on a batch that exists."""
        return BatchHandle(self, batch_id)

    async def batches(self, where: BatchFilter = ANY_BATCH, *, limit: int = 100) -> list[Batch]:
        """The newest batches first."""
        return await self.store.listings.page(where, limit=limit)

    async def retry(
        self, batch_id: UUID, *, outcomes: Collection[Outcome] = RETRIED, key: str | None = None
    ) -> BatchHandle:
        """Create a pending batch of those entries of another one that did not succeed; submit it as any other.

        Provider, model, handler and all else are as they were, custom ids are kept, and the new batch's
        `parent_batch_id` is the old one. Entries that an earlier retry has taken are left out, so that to ask twice
        does not pay twice. Nothing passes through this process, however many there are.

        Args:
            batch_id: which batch.
            outcomes: which entries; `invalid` ones were answered, and paid, and are only retried when asked for.
            key: as for `create_batch`: the retry is such a batch, and in a handler it has a key or a number as well.

        Raises:
            UnknownBatchError: there is no such batch.
            RetryRefusedError: it is not over, or nothing is left to be retried.
        """
        kept, token = self._keys.id_of("batch", key), uuid4()
        if kept is None:
            await self.store.retries.retry(batch_id, new_id := new_batch_id(), outcomes)
            return self.batch(new_id)
        await self.store.retries.retry(batch_id, kept, outcomes, filling_token=token)
        return to_be_filled(self, await self.store.batches.get(kept), token)
