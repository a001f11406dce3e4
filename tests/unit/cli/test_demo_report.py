import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from overnight.batches import Batch, BatchStatus, Cost, Entry, Outcome
from overnight.cli.demo.findings import Finding, shortcomings
from overnight.cli.demo.job import price_of
from overnight.cli.demo.parts import PARTS, choose
from overnight.cli.demo.report import shortened, show_batches, show_links, show_results, show_thresholds
from overnight.cli.demo.reviews import Verdict
from overnight.cli.demo.snippets import Snippet
from overnight.cli.demo.watching import display, view_of
from overnight.contracts import ProgressReport
from overnight.errors import MissingKeyError, UnknownProviderError
from overnight.estimates import Estimate
from tests.unit.cli.conftest import BATCH, NOW, OPEN_BATCH

SNIPPETS = {
    f"snippet-{number}": Snippet(id=str(number), text=text, rating=rating)
    for number, (text, rating) in enumerate([("works [well]", 2.5), ("meh", 0.0), ("it broke", -3.0)])
}


def entry(custom_id: str, sentiment: str | None) -> Entry[Verdict]:
    if sentiment is None:
        return Entry(custom_id=custom_id, outcome=Outcome.ERRORED, reason="the server had an error")
    output = Verdict.model_validate({"sentiment": sentiment, "confidence": 0.75, "deciding_words": ["a", "b"]})
    return Entry(custom_id=custom_id, outcome=Outcome.SUCCEEDED, output_or_none=output)


ENTRIES = [entry("snippet-0", "positive"), entry("snippet-1", "positive"), entry("snippet-2", None)]


def finding(batch: Batch = BATCH, entries: Sequence[Entry[Verdict]] = ENTRIES, rows: int = 2) -> Finding:
    return Finding(batch=batch, snippets=SNIPPETS, entries=entries, rows=rows)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160, highlight=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Which providers


def test_without_a_choice_both_providers_are_simulated_and_looked_at_often() -> None:
    scope = choose({"OPENAI_API_KEY": "sk-real"})
    assert (scope.parts, scope.simulated, scope.name) == (PARTS, True, "simulated")
    assert scope.poll_waits is not None
    assert max(scope.poll_waits) <= timedelta(seconds=2)


def test_a_chosen_provider_is_real_and_looked_at_as_the_deployment_says() -> None:
    scope = choose({"OVERNIGHT_DEMO_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": "sk-real"})
    assert [part.model for part in scope.parts] == ["claude-haiku-4-5"]
    assert (scope.simulated, scope.name, scope.poll_waits) == (False, "anthropic", None)


def test_a_chosen_provider_needs_its_own_key() -> None:
    with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
        choose({"OVERNIGHT_DEMO_PROVIDER": "anthropic", "OPENAI_API_KEY": "sk-real"})


def test_a_provider_that_the_demo_does_not_know_is_refused() -> None:
    with pytest.raises(UnknownProviderError, match="openai or anthropic"):
        choose({"OVERNIGHT_DEMO_PROVIDER": "acme"})


def test_what_it_costs_at_most_is_told_before_anything_is_known_of_answers() -> None:
    unknown = Cost(billed=None, list_price=None)
    found = Estimate(
        entries=3,
        input_tokens=9,
        input_tokens_at_most=18,
        output_tokens=None,
        output_tokens_at_most=30,
        input_cost=unknown,
        cost=unknown,
        cost_at_most=Cost(billed=Decimal("0.12341"), list_price=None),
        how=(),
        unknown=(),
    )
    assert price_of(found) == "$0.1235 at most"
    assert (
        price_of(replace(found, cost=Cost(billed=Decimal("0.02"), list_price=None))) == "about $0.0200, $0.1235 at most"
    )


# Progress


def progress(**changes: object) -> ProgressReport:
    known = {"batch_id": None, "step": "poll", "status": "in_progress", "polls": 2, "done": 1, "failed": 0, "total": 3}
    later = {"next_poll_at": NOW + timedelta(seconds=2), "cancel_requested": False, "last_error": None}
    return ProgressReport.model_validate({**known, **later, **changes})


def test_a_batch_that_no_worker_has_taken_up_is_queued() -> None:
    view = view_of(replace(OPEN_BATCH, submitted_at=None), None, NOW)
    assert (view.step, view.age, view.next_poll) == ("queued", None, None)


def test_a_view_counts_from_now() -> None:
    view = view_of(OPEN_BATCH, progress(), NOW)
    assert (view.age, view.next_poll, view.counts) == (timedelta(minutes=2), timedelta(seconds=2), "3 of 3")


def test_a_poll_that_is_due_is_not_in_the_past() -> None:
    assert view_of(OPEN_BATCH, progress(next_poll_at=NOW - timedelta(seconds=1)), NOW).next_poll == timedelta(0)


def test_where_there_is_no_terminal_each_change_is_one_line(console: Console) -> None:
    later = view_of(OPEN_BATCH, progress(), NOW + timedelta(seconds=1))
    with display(console) as show:
        show([view_of(OPEN_BATCH, progress(), NOW)])
        show([later])
        show([view_of(OPEN_BATCH, progress(polls=3, last_error="openai [slow]"), NOW)])
    first, second = text_of(console).splitlines()
    assert "polls 2" in first
    assert "next poll in 0:00:02" in first
    assert second.endswith("last error: openai [slow]")


def test_on_a_terminal_progress_is_a_table() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    with display(console) as show:
        show([view_of(OPEN_BATCH, progress(last_error="openai [slow]"), NOW)])
    for word in ("next poll in", "gpt-5.4-mini", "0:02:00", "[slow]"):
        assert word in text_of(console)


# What came out


def test_nothing_is_missing_when_every_entry_has_its_outcome() -> None:
    assert shortcomings(finding()) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (finding(replace(BATCH, status=BatchStatus.EXPIRED, failure_reason="too late")), "expired: too late"),
        (finding(replace(BATCH, outcomes={Outcome.SUCCEEDED: 2})), "2 outcomes for 3 entries"),
        (finding(entries=ENTRIES[:2]), "2 entries, 0 of them without outcome"),
        (finding(entries=[*ENTRIES[:2], replace(ENTRIES[2], outcome=None)]), "1 of them without outcome"),
        (finding(replace(BATCH, handler_dispatched_at=None)), "has not run"),
        (finding(rows=1), "wrote 1 rows for 2 answers"),
    ],
)
def test_what_is_missing_is_said(found: Finding, said: str) -> None:
    (problem,) = shortcomings(found)
    assert said in problem


def test_results_stand_next_to_their_input(console: Console) -> None:
    show_results(console, [finding()])
    *_, first, _second, third = text_of(console).splitlines()
    assert first.split() == ["snippet-0", "works", "[well]", "positive", "(+2.5)", "positive", "0.75", "a,", "b"]
    assert "errored" in third
    assert "the server had an error" in third


def test_batches_are_told_with_money_time_and_agreement(console: Console) -> None:
    show_batches(console, [finding()])
    told = text_of(console)
    for text in ("2 succeeded, 1 errored", "100 / 20", "$0.0010", "$0.0020", "60.0 s", "50% (1 of 2)"):
        assert text in told


def test_an_unknown_price_is_not_zero(console: Console) -> None:
    show_batches(console, [finding(replace(BATCH, cost=replace(BATCH.cost, billed=None)))])
    assert "unknown" in text_of(console)


def test_whose_agreement_it_is_depends_on_who_answered(console: Console) -> None:
    show_thresholds(console, simulated=False)
    assert "VADER" not in text_of(console)
    show_thresholds(console, simulated=True)
    assert "VADER" in text_of(console)


def test_links_that_end_with_the_demo_are_told_to(console: Console) -> None:
    show_links(console, ["http://127.0.0.1:1/w"], keep=True)
    assert "KEEP=1" not in text_of(console)
    show_links(console, ["http://127.0.0.1:1/w"], keep=False)
    assert "KEEP=1" in text_of(console)


def test_a_long_sentence_is_shortened() -> None:
    assert shortened("short") == "short"
    assert shortened("x" * 100) == "x" * 63 + "…"
