"""What Temporal's UI says of a batch from its start on, whether or not a worker runs."""

from overnight.batches import Batch
from overnight.texts import duration


def summary_of(batch: Batch) -> str:
    """One line, for the list."""
    return f"{batch.model}, {batch.entry_count:,} {_entries(batch)}, {_handler(batch)}"


def details_of(batch: Batch) -> str:
    """Markdown, for the page. No metadata: that is the user's, and may be anything."""
    lines = [
        f"{batch.entry_count:,} {_entries(batch)} for `{batch.model}` at {batch.provider} (`{batch.endpoint}`)\n",
        f"- batch: `{batch.id}`; `overnight show {batch.id}`",
        f"- afterwards: {_handler(batch)}",
        f"- waited for: {duration(batch.schedule.max_age)} from the submission on",
        f"- follows: `{batch.parent_batch_id}`" if batch.parent_batch_id else "",
    ]
    return "\n".join(line for line in lines if line)


def _entries(batch: Batch) -> str:
    return "entry" if batch.entry_count == 1 else "entries"


def _handler(batch: Batch) -> str:
    if batch.handler_activity:
        return f"activity {batch.handler_activity}"
    return f"handler {batch.handler}" if batch.handler else "no handler"
