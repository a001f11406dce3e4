"""The provider had no room for a batch: nothing ran, nothing was paid, and it is submitted again later."""

from activities.reports import poll_report
from activities.services import Services
from overnight.batches import Batch
from overnight.contracts import PollReport
from overnight.notices import Notice, NoticeKind
from overnight.providers.base import ProviderReport


async def send_back(services: Services, batch: Batch, report: ProviderReport, *, number: int = 0) -> PollReport:
    """Make the batch `pending` again, and say so the first time: it can take a day of refusals. A submission that was
    not accepted yet goes by its number.
    """
    batch = await services.store.submissions.send_back(batch.id, report, number=number)
    text = "The provider has no room for the batch; it is submitted again later."
    code = report.failure_code or "queue_full"
    if await services.store.submissions.sent_back(batch.id) == 1:
        await services.notifiers.notify(Notice(kind=NoticeKind.ABOVE_QUOTA, batch_id=batch.id, code=code, text=text))
    return poll_report(batch).model_copy(update={"resubmit": batch.provider_batch_id is None, "reason": code})
