"""What the Temporal UI says about a batch: texts for people, from values; no prompt or response is ever among them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from overnight.campaign_contracts import CampaignProgress, OpenCampaign
from overnight.contracts import BatchSummary, Handled, OpenBatch, PollReport, Trouble
from overnight.texts import duration

RUNBOOK = "docs/runbook.md"


@dataclass(frozen=True, kw_only=True)
class View:
    """All that the current details are made of."""

    batch: OpenBatch
    report: PollReport
    step: str
    polls: int
    now: datetime
    next_poll_at: datetime | None = None
    last_error: str | None = None
    trouble: Trouble | None = None
    results_lost: bool = False
    summary: BatchSummary | None = None


def progress(report: PollReport) -> str:
    """The status, and how many are done. (A slash between numbers would be a fraction to the UI.)"""
    return f"{report.status.value} {report.done:,} of {report.total:,}" if report.total else report.status.value


def waiting(report: PollReport, polls: int, wait: timedelta, *, failed: bool = False) -> str:
    """Beside a timer: what the last poll said, and when the next one is. In the UI's timeline this is the log."""
    said = "failed" if failed else progress(report)
    return f"{f'poll {polls}' if polls else 'created'}: {said}, next in {duration(wait)}"


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


def details(view: View) -> str:
    """The workflow's current details, in Markdown."""
    return "\n\n".join(part for part in (_headline(view), _trouble(view), _facts(view)) if part)


def _headline(view: View) -> str:
    return f"**{_doing(view)}** — {progress(view.report)}"


def _doing(view: View) -> str:
    return _alarming(view.step, view.trouble, lost=view.results_lost)


def _alarming(step: str, trouble: Trouble | None, *, lost: bool = False) -> str:
    return f"Needs attention: {step}" if lost or (trouble and trouble.needs_attention) else step


def _trouble(view: View) -> str:
    if view.trouble is not None:
        return _told(view.trouble, view.batch, view.last_error)
    if view.results_lost:
        return (
            f"> Results that the provider counts cannot be had; their entries are missing (`results_lost`).\n>\n"
            f"> **What to do:** `overnight show {view.batch.batch_id}` has the whole error; "
            f"`overnight retry {view.batch.batch_id}` asks again, and pays again. More in {RUNBOOK}."
        )
    return f"Last error: {view.last_error}" if view.last_error else ""


def _told(trouble: Trouble, handled: Handled, last_error: str | None) -> str:
    newer = last_error if last_error and last_error != trouble.text else None
    more = f" More in {RUNBOOK}." if trouble.needs_attention else ""
    todo = advice(trouble, handled)
    return f"> Last error: {newer or trouble.text} (`{trouble.code}`)\n>\n> **What to do:** {todo}{more}"


def advice(trouble: Trouble, handled: Handled) -> str:
    """What a person does about trouble of a kind: the name of the error that a step failed with."""
    match trouble.kind:
        case "TransientProviderError" | "IncompleteResultsError":
            return "nothing; it is waited out, and tried again by itself."
        case "AmbiguousProviderError" | "StillInDoubtError":
            return (
                f"nothing for ten minutes. If it stays, look in {handled.provider}'s console for a batch that may be "
                f"this one; `overnight doctor` lists what is in doubt. Never create it by hand."
            )
        case "PermanentProviderError":
            return (
                f"see what {handled.provider} refuses, usually the key or the account; mend it and restart the worker. "
                f"The signal `poll_now` tries at once."
            )
        case "ConfigurationError" | "MissingKeyError" | "MissingExtraError":
            return "set what is missing in the worker's environment and restart the worker."
        case "UnknownHandlerError" | "UnknownTaskError":
            return "start the worker with the module that defines it: `overnight worker --import MODULE`."
        case _:
            return _advice_for_code(trouble, handled)


def _advice_for_code(trouble: Trouble, handled: Handled) -> str:
    show, retry, skip = _orders(handled)
    if trouble.kind == "HandlerFailedError" or trouble.code == "handler_failed":
        return f"{show} has the whole error. Mend the handler and deploy it, then {retry}; or {skip}."
    if trouble.code == "no_handler_worker":
        return f"run a worker on task queue `{handled.handler_task_queue}`; it goes on by itself then. Or {skip}."
    return f"{show} has the whole error, and the worker's log its circumstances."


def _orders(handled: Handled) -> tuple[str, str, str]:
    """How to see it whole, to run its handler again, and to go on without."""
    if isinstance(handled, OpenCampaign):
        show = f"`overnight campaigns {handled.campaign_id} --json`"
        return show, "send it the signal `retry_handler`", "the signal `skip_handler`"
    (subject,) = handled.subject.values()
    return f"`overnight show {subject}`", f"`overnight retry-handler {subject}`", f"`overnight skip-handler {subject}`"


def _facts(view: View) -> str:
    batch, report = view.batch, view.report
    lines = [
        f"- batch: `{batch.batch_id}`",
        f"- model: `{batch.model}` at {batch.provider}, {batch.entry_count:,} entries",
        f"- provider batch: `{report.provider_batch_id}`" if report.provider_batch_id else "",
        _age(view),
        f"- polls: {view.polls}" + (f", next at {_at(view.next_poll_at)}" if view.next_poll_at else ""),
        f"- handler: {handler(batch)}",
        f"- reason: {report.reason}" if report.reason else "",
        _outcome(view.summary) if view.summary else "",
    ]
    return "\n".join(line for line in lines if line)


def _age(view: View) -> str:
    since = view.report.submitted_at
    if since is None:
        return ""
    age = f"- submitted: {_at(since)}; {duration(max(view.now - since, timedelta(0)))} old at {_at(view.now)}"
    return age if view.report.status.is_terminal else f"{age}; given up at {_at(since + view.batch.max_age)}"


def _outcome(summary: BatchSummary) -> str:
    counts = ", ".join(f"{count:,} {outcome.value}" for outcome, count in sorted(summary.outcomes.items()) if count)
    # No dollar signs: the UI takes what stands between two of them for a formula.
    cost = f"{summary.cost:f} USD" if summary.cost is not None else "unknown"
    saved = f", {summary.list_cost:f} USD without batching" if summary.list_cost is not None else ""
    return f"- outcomes: {counts}\n- cost: {cost}{saved}"


def campaign_details(campaign: OpenCampaign, progress: CampaignProgress, trouble: Trouble | None = None) -> str:
    """The campaign's current details, in Markdown."""
    counts = ", ".join(f"{count} {status.value}" for status, count in sorted(progress.statuses.items()))
    next_look_at = progress.next_look_at
    lines = [
        f"**{_alarming(progress.step, trouble)}** — round {progress.round} of at most {campaign.rounds}\n",
        f"{_told(trouble, campaign, None)}\n" if trouble else "",
        f"- model: `{campaign.model}` at {campaign.provider}, {campaign.entry_count} entries",
        f"- batches: {counts}" if counts else "",
        f"- at once: {progress.running} run, {progress.limit} of at most {campaign.max_concurrent_batches} may"
        + (f"; next look at {_at(next_look_at)}" if next_look_at else ""),
        f"- handler: {handler(campaign)}",
        f"- round skipped: {progress.skipped_round}" if progress.skipped_round else "",
    ]
    return "\n".join(line for line in lines if line)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
