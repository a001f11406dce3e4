"""What the Temporal UI says about a batch: texts for people, from values; no prompt or response is ever among them."""

from datetime import datetime, timedelta

from overnight.campaign_contracts import CampaignProgress, OpenCampaign
from overnight.contracts import Handled, OpenBatch, PollReport


def duration(length: timedelta) -> str:
    """As people say it: "45s", "5m", "1h 30m"."""
    seconds = round(length.total_seconds())
    if seconds < 60:
        return f"{length.total_seconds():.3g}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds}s" if seconds else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if minutes else f"{hours}h"


def progress(report: PollReport) -> str:
    """One line: the status, and how many are done."""
    return f"{report.status.value}, {report.done} of {report.total} done" if report.total else report.status.value


def waiting(report: PollReport, polls: int, wait: timedelta) -> str:
    """Beside a timer: what the last poll said, and when the next one is."""
    return f"{progress(report)}; poll {polls + 1} in {duration(wait)}"


def there(what: str, task_queue: str | None) -> str:
    """What is done, and where, if that is not here."""
    return f"{what} on task queue {task_queue}" if task_queue else what


def handler(handled: Handled) -> str:
    """What is run once it is over, and where."""
    name = f"activity {handled.handler_activity}" if handled.handler_activity else handled.handler or "no handler"
    return there(name, handled.handler_task_queue)


def untaken(step: str, handled: Handled, patience: timedelta) -> str:
    """Nobody polls the task queue where the user's code is to run."""
    way_out = "Run a worker with that activity" if handled.handler_activity else "Run `overnight handlers`"
    where = f"task queue {handled.handler_task_queue!r}"
    return f"No worker took {step} from {where} for {duration(patience)}. {way_out} there, or skip the handler."


def failed_for_good(handled: Handled, pause: timedelta) -> str:
    """The user's code says that trying again is no use; its own words may quote anything, so they are not here."""
    return f"Running {handler(handled)} failed and is not to be tried again. It is, all the same, in {duration(pause)}."


def details(  # noqa: PLR0913 - one argument per line of the text
    batch: OpenBatch,
    report: PollReport,
    *,
    step: str,
    polls: int,
    next_poll_at: datetime | None,
    last_error: str | None,
) -> str:
    """The workflow's current details, in Markdown."""
    lines = [
        f"**{step}** — {progress(report)}",
        f"- model: `{batch.model}` at {batch.provider}, {batch.entry_count} entries",
        f"- provider batch: `{batch.provider_batch_id}`" if batch.provider_batch_id else "",
        f"- polls: {polls}" + (f", next at {next_poll_at:%Y-%m-%d %H:%M:%S} UTC" if next_poll_at else ""),
        f"- handler: {handler(batch)}",
        f"- last error: {last_error}" if last_error else "",
        f"- reason: {report.reason}" if report.reason else "",
    ]
    return "\n".join(line for line in lines if line)


def campaign_details(campaign: OpenCampaign, progress: CampaignProgress) -> str:
    """The campaign's current details, in Markdown."""
    counts = ", ".join(f"{count} {status.value}" for status, count in sorted(progress.statuses.items()))
    next_look_at = progress.next_look_at
    lines = [
        f"**{progress.step}** — round {progress.round} of at most {campaign.rounds}",
        f"- model: `{campaign.model}` at {campaign.provider}, {campaign.entry_count} entries",
        f"- batches: {counts}" if counts else "",
        f"- at once: {progress.running} run, {progress.limit} of at most {campaign.max_concurrent_batches} may"
        + (f"; next look at {next_look_at:%Y-%m-%d %H:%M:%S} UTC" if next_look_at else ""),
        f"- handler: {handler(campaign)}",
        f"- last error: {progress.last_error}" if progress.last_error else "",
    ]
    return "\n".join(line for line in lines if line)
