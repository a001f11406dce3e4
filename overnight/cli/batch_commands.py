"""The commands for batches, their options and their help. What they do is imported when they run."""

from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from overnight.batches import RETRIED, BatchFilter, BatchStatus, Outcome
from overnight.cli import values
from overnight.cli.options import BATCHES, AsJson, BatchId, finish

commands = typer.Typer()


@commands.command("list", rich_help_panel=BATCHES)
def list_batches(
    status: Annotated[list[BatchStatus] | None, typer.Option(help="May be given more than once.")] = None,
    provider: Annotated[str | None, typer.Option(help="Of this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="For this model.")] = None,
    handler: Annotated[str | None, typer.Option(help="With this handler.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=values.since, metavar="WHEN", help="Created since: 24h, 7d, 2026-11-22T06:00."),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(parser=values.batch_id, metavar="BATCH_ID", help="Made by a retry or the handler of this batch."),
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Handed over, and not handled yet.")] = False,
    needs_attention: Annotated[
        bool, typer.Option("--needs-attention", help="Something keeps it from going on.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    before: Annotated[
        str | None,
        typer.Option(parser=values.batch_id, metavar="BATCH_ID", help="Only older ones: the last of the page before."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first.

    \b
    overnight list --status failed --status expired --since 7d
    overnight list --needs-attention --json
    """
    from overnight.cli.batches import listing  # noqa: PLC0415 - imported when it runs

    wanted = BatchFilter(
        statuses=tuple(status or ()),
        provider=provider,
        model=model,
        handler=handler,
        created_since=since,
        unfinished=unfinished,
        needs_attention=needs_attention,
    )
    finish(listing(wanted, parent=parent, before=before, limit=limit, as_json=as_json))


@commands.command("campaigns", rich_help_panel=BATCHES)
def list_campaigns(
    campaign_id: Annotated[UUID | None, typer.Argument(metavar="CAMPAIGN_ID", help="Only this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest campaigns, or show one."""
    from overnight.cli.campaigns import listing  # noqa: PLC0415 - imported when it runs

    finish(listing(limit=limit, campaign_id=campaign_id, as_json=as_json))


@commands.command(rich_help_panel=BATCHES)
def show(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Show one batch.

    Its JSON, here and wherever a command prints a batch, has the fields of `overnight.Batch` and `waited_seconds`;
    money and instants are text.
    """
    from overnight.cli.batches import showing  # noqa: PLC0415 - imported when it runs

    finish(showing(batch_id, as_json=as_json))


@commands.command(rich_help_panel=BATCHES)
def watch(
    batch_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="BATCH_ID", parser=values.batch_id, help="By default all that are unfinished."),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the database.")] = 2.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each change, as is done without a terminal.")
    ] = False,
) -> None:
    """Watch batches until they are finished; the exit code is that of the worst.

    \b
    overnight watch
    overnight watch 01a201c2-3cab --json | jq .status
    """
    from overnight.cli.watching import watching  # noqa: PLC0415 - imported when it runs

    raise typer.Exit(finish(watching(batch_ids or [], every=every, as_json=as_json)))


@commands.command(rich_help_panel=BATCHES)
def results(
    batch_id: BatchId,
    kind: Annotated[
        str | None,
        typer.Option("--format", metavar="[jsonl|csv|parquet]", help="By default as the file's name says, else jsonl."),
    ] = None,
    outcome: Annotated[
        list[Outcome] | None, typer.Option(help="Only entries of this outcome; may be given more than once.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout; replaced when whole.")
    ] = None,
    responses: Annotated[
        bool, typer.Option("--responses", help="Add a column `response`: the provider's line as it was received.")
    ] = False,
) -> None:
    """Write a batch's entries with what came of them, in the order of adding.

    Columns: custom_id, outcome, output, tool_calls, error_code, reason, input_tokens, cache_read_tokens,
    cache_write_tokens, output_tokens, reasoning_tokens, cost, list_cost, task, fields. The output of a raw request is
    the answer's text. `tool_calls` is a list of objects with id, name, arguments, result, error_code and error. In CSV
    and Parquet, output, tool_calls and fields are JSON texts; in CSV, a cell that a spreadsheet would take for a
    formula begins with an apostrophe. A cost that nobody knows is empty.

    \b
    overnight results 01a201c2-3cab --output results.csv
    overnight results 01a201c2-3cab --outcome errored --outcome expired | jq .reason
    """
    from overnight.cli.exporting import exporting  # noqa: PLC0415 - imported when it runs

    finish(exporting(batch_id, kind=kind, outcomes=outcome or [], output=output, responses=responses))


@commands.command(rich_help_panel=BATCHES)
def tail(
    batch_id: BatchId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the batch's results are read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")] = False,
) -> None:
    """Show stray results: received lines that are no entry's result (malformed, unknown or duplicate).

    Keys of the JSON: received_at, kind, custom_id, source, bytes, text (the first 2,000 bytes).
    """
    from overnight.cli.tailing import tailing  # noqa: PLC0415 - imported when it runs

    finish(tailing(batch_id, follow=follow, as_json=as_json))


@commands.command(rich_help_panel=BATCHES)
def retry(
    batch_id: BatchId,
    invalid: Annotated[
        bool, typer.Option("--invalid", help="Also what was answered, and paid, and did not fit.")
    ] = False,
    outcome: Annotated[
        list[Outcome] | None, typer.Option(help="Only entries of this outcome; may be given more than once.")
    ] = None,
    submit: Annotated[
        bool, typer.Option("--submit/--no-submit", help="Hand the new batch over, or only fill it.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Submit again, as a new batch, what did not succeed: errored, expired, canceled and missing entries.

    Provider, model, handler and custom ids stay. What an earlier retry of the same batch has taken is left out.

    \b
    overnight retry 01a201c2-3cab
    overnight retry 01a201c2-3cab --outcome expired --no-submit
    """
    from overnight.cli.submitting import retrying  # noqa: PLC0415 - imported when it runs

    outcomes = set(outcome or RETRIED) | ({Outcome.INVALID} if invalid else set())
    finish(retrying(batch_id, outcomes=outcomes, submit=submit, as_json=as_json))


@commands.command(rich_help_panel=BATCHES)
def cancel(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Ask for a batch to be canceled; entries that are answered by then keep their results."""
    from overnight.cli.batches import canceling  # noqa: PLC0415 - imported when it runs

    finish(canceling(batch_id, as_json=as_json))


@commands.command("retry-handler", rich_help_panel=BATCHES)
def retry_handler(batch_id: BatchId) -> None:
    """Run a handler that keeps failing again now, instead of at the end of its present wait."""
    from overnight.cli.batches import ordering  # noqa: PLC0415 - imported when it runs

    finish(ordering(batch_id, retry=True))


@commands.command("skip-handler", rich_help_panel=BATCHES)
def skip_handler(batch_id: BatchId) -> None:
    """Let a batch finish without its handler."""
    from overnight.cli.batches import ordering  # noqa: PLC0415 - imported when it runs

    finish(ordering(batch_id, retry=False))
