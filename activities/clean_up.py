"""Leave nothing behind at the provider that nobody uses."""

from temporalio import activity

from activities.orphans import cancel_orphans
from activities.services import Services
from overnight.batches import Batch
from overnight.contracts import BatchRef, CleanUpReport
from overnight.handling.failures import step
from overnight.handling.heartbeats import heartbeating


class CleanUpActivities:
    """The last step, when everything that counts is done."""

    def __init__(self, services: Services) -> None:
        self._services, self._store = services, services.store

    @activity.defn(name="clean_up")
    @step
    async def clean_up(self, request: BatchRef) -> CleanUpReport:
        batch = await self._store.batches.get(request.batch_id)
        async with heartbeating():
            orphans = await cancel_orphans(self._services, batch)
            files = await self._delete_uploads(batch)
            if self._services.settings.delete_at_provider:
                await self._forget(batch)
        return CleanUpReport(files_deleted=files, orphans_canceled=orphans)

    async def _delete_uploads(self, batch: Batch) -> int:
        """Uploads whose answer was lost, or whose submission was given up: no provider batch reads them."""
        provider = self._services.provider(batch.provider)
        used = await self._store.submissions.files_in_use(batch.id)
        unused = [file for file in await provider.uploads(batch.id, batch.created_at) if file not in used]
        for file in unused:
            await provider.delete_upload(file)
        return len(unused)

    async def _forget(self, batch: Batch) -> None:
        if batch.provider_batch_id is not None and batch.handler_dispatched_at is not None:
            uploads = await self._store.submissions.files_in_use(batch.id)
            await self._services.provider(batch.provider).forget(batch.provider_batch_id, uploads)
