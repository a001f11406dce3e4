"""Rows to what crosses the Temporal boundary."""

from overnight.batches import Batch
from overnight.contracts import OpenBatch, PollReport
from overnight.providers import provider_facts


def poll_report(batch: Batch) -> PollReport:
    return PollReport(
        status=batch.status,
        done=batch.progress.done,
        failed=batch.progress.failed,
        total=batch.progress.total,
        reason=batch.failure_code,  # the reason itself may be the provider's words, and those may quote a request
        submitted_at=batch.submitted_at,
        provider_batch_id=batch.provider_batch_id,
    )


def open_report(batch: Batch, *, is_searchable: bool) -> OpenBatch:
    return OpenBatch(
        batch_id=batch.id,
        status=batch.status,
        provider=batch.provider,
        model=batch.model,
        entry_count=batch.entry_count,
        poll_waits=list(batch.schedule.waits),
        max_age=batch.schedule.max_age,
        submitted_at=batch.submitted_at,
        provider_batch_id=batch.provider_batch_id,
        cancel_requested=batch.cancel_requested_at is not None,
        handler=batch.handler,
        handler_task_queue=batch.handler_task_queue,
        handler_activity=batch.handler_activity,
        is_dispatched=batch.handler_dispatched_at is not None,
        uploads_first=provider_facts(batch.provider).uploads_first,
        is_searchable=is_searchable,
        trouble_code=batch.trouble_code,
        is_paced=batch.campaign_id is not None,
    )
