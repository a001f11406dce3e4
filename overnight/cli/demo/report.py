"""What the demo prints once its batches are over."""

from collections.abc import Sequence
from itertools import islice

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from overnight.batches import Batch, Entry, Outcome
from overnight.cli.demo.findings import Finding
from overnight.cli.demo.reviews import TABLE, Verdict
from overnight.cli.demo.snippets import NEGATIVE_FROM, POSITIVE_FROM, Agreement

_SHOWN_PER_BATCH = 4
_SHORTENED = 64


def show_results(console: Console, findings: Sequence[Finding]) -> None:
    """A few results next to their input."""
    table = Table("entry", "sentence", "people", "answer", "sure", "deciding words", box=None, pad_edge=False)
    for finding in findings:
        for entry in islice(finding.entries, _SHOWN_PER_BATCH):
            snippet = finding.snippets[entry.custom_id]
            people = f"{snippet.sentiment} ({snippet.rating:+.1f})"
            table.add_row(entry.custom_id, escape(shortened(snippet.text)), people, *map(escape, _answer(entry)))
    console.print("\n[bold]Some results next to their input[/bold]")
    console.print(table)


def _answer(entry: Entry[Verdict]) -> tuple[str, str, str]:
    if (output := entry.output_or_none) is None:
        return entry.outcome or "none", "", entry.reason or ""
    return output.sentiment, f"{output.confidence:.2f}", ", ".join(output.deciding_words)


def shortened(text: str) -> str:
    """A sentence that fits into a column."""
    return text if len(text) <= _SHORTENED else text[: _SHORTENED - 1].rstrip() + "…"


def show_batches(console: Console, findings: Sequence[Finding]) -> None:
    """Entries per outcome, tokens, cost, waiting time, and what the handler did."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for finding in findings:
        table.add_column(f"{finding.batch.provider} {finding.batch.model}")
    for name, values in _rows(findings).items():
        table.add_row(name, *values)
    console.print("\n[bold]The batches[/bold]")
    console.print(table)


def _rows(findings: Sequence[Finding]) -> dict[str, list[str]]:
    batches = [finding.batch for finding in findings]
    return {
        "entries": [f"{batch.entry_count}" for batch in batches],
        "outcomes": [_outcomes(batch) for batch in batches],
        "tokens in / out": [f"{batch.usage.input_tokens:,} / {batch.usage.output_tokens:,}" for batch in batches],
        "cost as a batch": [_money(batch.cost.billed) for batch in batches],
        "at list price": [_money(batch.cost.list_price) for batch in batches],
        "waited": [f"{batch.waited.total_seconds():.1f} s" if batch.waited else "?" for batch in batches],
        f"rows in {TABLE}": [f"{finding.rows}" for finding in findings],
        "agree with people": [_agreeing(finding.agreement) for finding in findings],
        "a constant answer would": [f"{finding.agreement.baseline:.0%}" for finding in findings],
    }


def _outcomes(batch: Batch) -> str:
    return ", ".join(f"{batch.outcomes[outcome]} {outcome.value}" for outcome in Outcome if batch.outcomes.get(outcome))


def _money(amount: object) -> str:
    return "unknown" if amount is None else f"${amount:.4f}"


def _agreeing(found: Agreement) -> str:
    return f"{found.share:.0%} ({found.agreeing} of {found.total})"


def show_thresholds(console: Console, *, simulated: bool) -> None:
    """How agreement was counted, and whose it is."""
    console.print(
        f"People rated each sentence from -4 to 4; a mean of {POSITIVE_FROM:+} or more counts as positive, "
        f"{NEGATIVE_FROM:+} or less as negative, and what lies between as neutral."
    )
    if simulated:
        console.print(
            "The agreement is VADER's, a rule-based classifier, not a language model's; the tokens are counted by the "
            "simulator, and nothing was paid."
        )


def show_links(console: Console, links: Sequence[str], *, keep: bool) -> None:
    """Where each workflow can be looked at."""
    console.print("\n[bold]The workflows in Temporal's UI[/bold]")
    for link in links:
        console.print(link, soft_wrap=True)
    if not keep:
        console.print(
            "The servers stop with this demo. With `make demo KEEP=1` (or `overnight demo --keep`) they stay up until "
            "Ctrl-C."
        )
