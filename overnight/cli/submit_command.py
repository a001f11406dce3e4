"""`overnight submit`, its options and its help."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from overnight.cli import values
from overnight.cli.options import BATCHES, AsJson, Modules, finish

commands = typer.Typer()


@commands.command(rich_help_panel=BATCHES)
def submit(
    file: Annotated[str | None, typer.Argument(metavar="FILE.jsonl", help="`-` is stdin.", show_default=False)] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            parser=values.batch_id,
            metavar="BATCH_ID",
            help="Hand over a batch that is filled already, instead of a file.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="[openai|anthropic]", help="Of a raw file; by default its first line tells."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The file holds the fields of this Task, and maybe custom_id.")
    ] = None,
    modules: Modules = None,
    provider: Annotated[str | None, typer.Option(help="By default the one whose format it is.")] = None,
    model: Annotated[str | None, typer.Option(help="By default the file's own.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="By default the file's own, or the provider's first.")] = None,
    handler: Annotated[str | None, typer.Option(metavar="NAME", help="What runs once the batch is over.")] = None,
    handler_task_queue: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="The Temporal task queue where the handler and the Tasks are.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Yours, never sent; or a JSON object. May be given more than once."),
    ] = None,
    max_age: Annotated[
        timedelta | None,
        typer.Option(parser=values.duration, metavar="DURATION", help="How long to wait for it: 26h, 2d."),
    ] = None,
    allow_unknown_model: Annotated[
        bool, typer.Option("--allow-unknown-model", help="Take a model without a known price.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is over; the exit code says how it ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a file as a batch: all of its lines, or, when anything is wrong with one, none.

    A file in the format of OpenAI's or Anthropic's batch input is taken as it is. With --task each line is a JSON
    object of that Task's fields.

    \b
    overnight submit requests.jsonl --wait
    overnight submit reviews.jsonl --task Classify --import my_app.batches --provider anthropic --model claude-haiku-4-5
    jq -c '{custom_id, method, url, body}' old.jsonl | overnight submit - --dry-run
    """
    from overnight.cli import submitting  # noqa: PLC0415 - imported when it runs

    if (file is None) == (batch is None):
        raise typer.BadParameter("Give either a file or --batch.", param_hint="FILE.jsonl")
    if batch is not None:
        raise typer.Exit(finish(submitting.submitting_batch(batch, wait=wait, as_json=as_json)))
    options: dict[str, Any] = {
        "handler": handler,
        "handler_task_queue": handler_task_queue,
        "metadata": values.metadata(metadata or []),
        "max_age": max_age,
        "allow_unknown_model": allow_unknown_model,
    }
    chosen = {"provider": provider, "model": model, "endpoint": endpoint}
    order = submitting.Order(
        file=str(file), form=form, task=task, modules=modules or [], chosen=chosen, options=options
    )
    if dry_run:
        finish(submitting.rehearsing(order, as_json=as_json))
    else:
        raise typer.Exit(finish(submitting.submitting(order, wait=wait, as_json=as_json)))
