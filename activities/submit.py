"""Claim the batch, upload its entries, and create the provider batch: exactly one, whatever happens."""

import logging
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeating
from activities.reports import open_report, poll_report
from activities.services import Services
from overnight.batches import Batch, BatchStatus
from overnight.contracts import BatchRef, BatchSpec, OpenBatch, OpenRequest, PollReport
from overnight.errors import AmbiguousProviderError, PermanentProviderError, TransientProviderError, UsageError
from overnight.providers.base import EntryLines, Provider, ProviderReport, Submission, Undecided
from overnight.registering import registration

logger = logging.getLogger(__name__)

# After this long a list without our batch proves that there is none; providers.md 1.2 asks for one to two minutes.
_LIST_SETTLES = timedelta(minutes=2)

# Answers after which asking again can help nobody: the request itself is at fault.
_REJECTIONS = frozenset({400, 413, 422})


class SubmitActivities:
    """The steps up to the provider's acceptance."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="open_batch")
    @translated(final=UsageError)
    async def open_batch(self, request: OpenRequest) -> OpenBatch:
        batch_id = request.start.batch_id
        if request.start.spec is not None:
            batch_id = await self._register(request.start.spec, request)
        assert batch_id is not None
        return open_report(await self._store.batches.claim(batch_id, request.workflow_id))

    async def _register(self, spec: BatchSpec, request: OpenRequest) -> UUID:
        """The batch id follows from the run, so that a repeated attempt finds what an earlier one registered."""
        batch_id = uuid5(NAMESPACE_URL, f"overnight:{request.workflow_id}:{request.run_id}")
        batch, entries, room = registration(spec, batch_id, self._services.settings)
        await self._store.entries.create_filled(batch, entries, room)
        return batch_id

    @activity.defn(name="upload_entries")
    @translated()
    async def upload_entries(self, request: BatchRef) -> None:
        batch = await self._store.batches.get(request.batch_id)
        submission = await self._store.batches.submission(batch.id)
        if batch.provider_batch_id is not None or submission.file_id is not None:
            return
        async with heartbeating():
            file_id = await self._services.provider(batch.provider).upload(submission, self._lines(batch.id))
        if file_id is not None:
            await self._store.batches.record_upload(batch.id, file_id)

    @activity.defn(name="create_provider_batch")
    @translated()
    async def create_provider_batch(self, request: BatchRef) -> PollReport:
        batch = await self._store.batches.get(request.batch_id)
        if batch.provider_batch_id is None and not batch.status.is_terminal:
            async with heartbeating():
                batch = await self._create_or_adopt(batch)
        return poll_report(batch)

    async def _create_or_adopt(self, batch: Batch) -> Batch:
        provider = self._services.provider(batch.provider)
        submission = await self._store.batches.submission(batch.id)
        if submission.started_at is not None:
            adopted = await self._find(provider, submission)
            if adopted is not None:
                logger.warning("batch %s: adopted %s", batch.id, adopted.provider_batch_id)
                return await self._store.batches.record_acceptance(batch.id, adopted)
        return await self._create(provider, batch, submission)

    async def _find(self, provider: Provider, submission: Submission) -> ProviderReport | None:
        """What an earlier create may have made; None is said only when it is certain that it made nothing."""
        assert submission.started_at is not None
        claimed = await self._store.batches.claimed(provider.name)
        found = await provider.find(submission, claimed=claimed)
        settled = datetime.now(UTC) - submission.started_at > _LIST_SETTLES
        if isinstance(found, Undecided) or (found is None and not settled):
            raise AmbiguousProviderError(
                provider.name,
                "create",
                "An earlier attempt may have created the batch. It is not created again before that is certain.",
            )
        return found

    async def _create(self, provider: Provider, batch: Batch, submission: Submission) -> Batch:
        # The intent is committed before the first byte leaves: whoever comes after us will search before creating.
        await self._store.batches.record_intent(batch.id, await provider.newest())
        submission = await self._store.batches.submission(batch.id)
        try:
            report = await provider.create(submission, self._lines(batch.id))
        except (TransientProviderError, PermanentProviderError) as error:
            # Refused: certainly no batch. After anything else the intent stands, and the next attempt searches first.
            await self._store.batches.withdraw_intent(batch.id)
            if error.status not in _REJECTIONS:
                raise
            code = error.code or f"http_{error.status}"
            return await self._store.batches.close(batch.id, BatchStatus.FAILED, code=code, reason=error.message)
        return await self._store.batches.record_acceptance(batch.id, report)

    def _lines(self, batch_id: UUID) -> EntryLines:
        return lambda: self._store.entries.pages(batch_id)
