"""The client that tests get: the one that users have, but for `wait`, which does not wait for what will not come."""

import asyncio
from collections import defaultdict, deque
from datetime import timedelta
from uuid import UUID

from temporalio.client import Client

from overnight.batches import Batch
from overnight.client import BatchHandle, Overnight
from overnight.errors import StuckBatchError
from overnight.notices import RESULTS_LOST, Notice, NoticeKind
from overnight.settings import Settings
from overnight.storage.store import Store

# Long enough for a slow machine; a test that needs longer waits for something that does not happen.
_PATIENCE = timedelta(seconds=60)
_LOOK_SECONDS = 0.05


class Troubles:
    """Hears from the worker, in its thread, what somebody would have to mend."""

    def __init__(self) -> None:
        self._told: defaultdict[UUID | None, deque[Notice]] = defaultdict(deque)

    async def notify(self, notice: Notice) -> None:
        """Keep it for whoever waits for this batch."""
        if notice.kind is NoticeKind.ATTENTION and notice.code != RESULTS_LOST:
            self._told[notice.batch_id].append(notice)

    def next(self, batch_id: UUID) -> Notice | None:
        """The oldest trouble of a batch that nobody was told of yet."""
        return self._told[batch_id].popleft() if self._told[batch_id] else None


class WatchedBatch(BatchHandle):
    """A batch handle whose `wait` ends when the batch needs help."""

    def __init__(self, overnight: Overnight, batch_id: UUID, troubles: Troubles) -> None:
        super().__init__(overnight, batch_id)
        self._troubles = troubles

    async def wait(self) -> Batch:
        """Wait until the batch is over and its handler has run, and return it.

        A worker tries for days what somebody may mend: a handler that raises, a wrong key. In a test nobody will, so
        each such trouble is raised here, once; a further `wait` goes on waiting.

        Raises:
            StuckBatchError: the batch does not go on by itself, or not within a minute.
            TemporalError: as for every client.
        """
        waiting = asyncio.ensure_future(super().wait())
        deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=_LOOK_SECONDS)
                if not waiting.done():
                    await self._look(overdue=asyncio.get_running_loop().time() > deadline)
            return await waiting
        finally:
            waiting.cancel()

    async def _look(self, *, overdue: bool) -> None:
        trouble = self._troubles.next(self.id)
        if trouble is not None or overdue:
            batch = await self.get()
            what = trouble.text if trouble is not None else f"it has not ended for {_PATIENCE.total_seconds():.0f} s."
            raise StuckBatchError(self.id, batch.status.value, what, batch.last_error)


class WatchedOvernight(Overnight):
    """The client whose batches are watched."""

    def __init__(self, *, settings: Settings, store: Store, temporal: Client, troubles: Troubles) -> None:
        super().__init__(settings=settings, store=store, temporal=temporal)
        self._troubles = troubles

    def batch(self, batch_id: UUID) -> WatchedBatch:
        """A handle on a batch that exists."""
        return WatchedBatch(self, batch_id, self._troubles)
