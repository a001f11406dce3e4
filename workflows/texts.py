"""What the Temporal UI says about a batch: texts for people, from values; no prompt or response is ever among them."""

from datetime import datetime, timedelta

from overnight.contracts import OpenBatch, PollReport


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
        f"- handler: `{batch.handler}`" if batch.handler else "- no handler",
        f"- last error: {last_error}" if last_error else "",
        f"- reason: {report.reason}" if report.reason else "",
    ]
    return "\n".join(line for line in lines if line)
