"""What came out of one batch, and whether that is all that had to come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overnight.batches import Batch, Entry, Outcome
from overnight.cli.demo.reviews import JudgeReview, Verdict, count_rows
from overnight.cli.demo.snippets import Agreement, Snippet, agreement
from overnight.client import BatchHandle


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One batch with its entries beside the snippets that they were made from."""

    batch: Batch
    snippets: Mapping[str, Snippet]
    entries: Sequence[Entry[Verdict]]
    rows: int
    """In the handler's own table."""

    @property
    def agreement(self) -> Agreement:
        """Of the answers with the people who rated the snippets."""
        return agreement(
            (self.snippets[entry.custom_id].sentiment, entry.output.sentiment)
            for entry in self.entries
            if entry.succeeded
        )


async def find(handle: BatchHandle, snippets: Mapping[str, Snippet], database_url: str) -> Finding:
    """Read what is known of a batch that is over."""
    return Finding(
        batch=await handle.get(),
        snippets=snippets,
        entries=[entry async for entry in handle.entries(JudgeReview)],
        rows=await count_rows(database_url, handle.id),
    )


def shortcomings(finding: Finding) -> list[str]:
    """What is not as it must be; empty when every entry has its outcome and the handler has run."""
    batch = finding.batch
    name = f"{batch.provider} batch {batch.id}"
    told = sum(batch.outcomes.values())
    without = sum(entry.outcome is None for entry in finding.entries)
    succeeded = batch.outcomes.get(Outcome.SUCCEEDED, 0)
    checks = {
        f"{name} is {batch.status.value}: {batch.failure_reason}": not batch.status.is_success,
        f"{name} has {told} outcomes for {batch.entry_count} entries": told != batch.entry_count,
        f"{name} has {len(finding.entries)} entries, {without} of them without outcome": (
            without > 0 or len(finding.entries) != batch.entry_count
        ),
        f"the handler of {name} has not run": batch.handler_dispatched_at is None,
        f"the handler of {name} wrote {finding.rows} rows for {succeeded} answers": finding.rows != succeeded,
    }
    return [text for text, is_so in checks.items() if is_so]
