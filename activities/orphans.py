"""Provider batches of ours that no batch owns: found, reported, canceled."""

import asyncio
import logging
from datetime import timedelta

from activities.services import Services
from overnight.batches import Batch
from overnight.errors import ConfigurationError, ProviderError
from overnight.log_events import LogEvent
from overnight.notices import Notice, NoticeKind
from overnight.providers.base import ProviderReport, Submission, Undecided

logger = logging.getLogger(__name__)

_ERRAND = timedelta(seconds=20)
"""Poll has 90 seconds for everything."""


async def look_for_orphans(services: Services, batch: Batch) -> None:
    """The side errand of a poll, for this batch and for those that are over and have nobody who looks after them."""
    try:
        async with asyncio.timeout(_ERRAND.total_seconds()):
            for batch_id in await services.store.submissions.in_doubt_beside(batch):
                await cancel_orphans(services, await services.store.batches.get(batch_id))
    except TimeoutError:
        logger.warning(
            "batch %s: no time left to look for orphans", batch.id, extra={"event": LogEvent.ORPHANS_POSTPONED}
        )


async def cancel_orphans(services: Services, batch: Batch) -> int:
    """Look for what abandoned submissions of this batch made, and cancel it; returns how many there were.

    What goes wrong is logged, and tried again at the next opportunity.
    """
    canceled = 0
    for submission in await services.store.submissions.in_doubt(batch.id):
        try:
            canceled += await _resolve(services, batch, submission)
        except (ProviderError, ConfigurationError) as error:
            logger.warning(
                "batch %s: submission %s is still in doubt: %s",
                batch.id,
                submission.number,
                error.public,
                extra={"event": LogEvent.SUBMISSION_IN_DOUBT},
            )
    return canceled


async def _resolve(services: Services, batch: Batch, submission: Submission) -> int:
    provider = services.provider(batch.provider)
    claimed = await services.store.submissions.claimed(batch.provider)
    found = await provider.find(submission, claimed=claimed)
    match found:
        case ProviderReport():
            return await _cancel(services, batch, submission, found)
        case Undecided():
            return 0
        case None:
            # Lists were believed once already when the submission was let go; they get until the batch is over.
            if batch.status.is_terminal:
                await services.store.submissions.resolve(submission, None)
            return 0


async def _cancel(services: Services, batch: Batch, submission: Submission, orphan: ProviderReport) -> int:
    if not orphan.status.is_terminal:
        await services.provider(batch.provider).cancel(orphan.provider_batch_id)
    if not await services.store.submissions.resolve(submission, orphan.provider_batch_id):
        return 0
    text = f"{batch.provider} has {orphan.provider_batch_id}, made by submission {submission.number} that was given up."
    await services.notifiers.notify(
        Notice(kind=NoticeKind.ORPHAN, batch_id=batch.id, code="orphaned_provider_batch", text=text)
    )
    return 1
