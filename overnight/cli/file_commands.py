"""The commands that take files, their options and their help. What they do is imported when they run."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer

from overnight.cli import values
from overnight.cli.options import BATCHES, AsJson, Modules, finish

commands = typer.Typer()

Form = Annotated[
    str | None,
    typer.Option("--format", metavar="[openai|anthropic]", help="Of a raw file; by default its first line tells."),
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="The file holds the fields of this Task, and maybe custom_id."),
]
Provider = Annotated[str | None, typer.Option(metavar="NAME", help="By default the one whose format it is.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="By default the file's own.")]
Endpoint = Annotated[
    str | None, typer.Option(metavar="PATH", help="By default the file's own, or the provider's first.")
]
AllowUnknownModel = Annotated[bool, typer.Option("--allow-unknown-model", help="Take a model without a known price.")]


@commands.command(rich_help_panel=BATCHES)
def submit(
    file: Annotated[str | None, typer.Argument(metavar="FILE.jsonl", help="`-` is stdin.", show_default=False)] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            parser=values.batch_id, metavar="BATCH_ID", help="Hand over a batch that is filled already, and no file."
        ),
    ] = None,
    form: Form = None,
    task: TaskName = None,
    modules: Modules = None,
    provider: Provider = None,
    model: Model = None,
    endpoint: Endpoint = None,
    handler: Annotated[str | None, typer.Option(metavar="NAME", help="What runs once the batch is over.")] = None,
    handler_task_queue: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="The Temporal task queue where the handler and the Tasks are.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Yours, never sent; or a JSON object. May be given more than once."),
    ] = None,
    max_cost: Annotated[
        Decimal | None,
        typer.Option(parser=values.dollars, metavar="DOLLARS", help="Submit nothing that could cost more."),
    ] = None,
    max_age: Annotated[
        timedelta | None,
        typer.Option(parser=values.duration, metavar="DURATION", help="How long to wait for it: 26h, 2d."),
    ] = None,
    allow_unknown_model: AllowUnknownModel = False,
    key: Annotated[
        str | None,
        typer.Option(
            parser=values.key,
            metavar="TEXT",
            help="Names the batch for good: submitted again by the same key, it is the same batch, and nothing is "
            "added to it.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is over; the exit code says how it ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the estimate, and write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a file as a batch: all of its lines, or, when anything is wrong with one, none.

    A file in the format of OpenAI's or Anthropic's batch input is taken as it is. With --task each line is a JSON
    object of that Task's fields.

    \b
    overnight submit requests.jsonl --wait
    overnight submit requests.jsonl --key "nightly-$(date -I)"
    overnight submit reviews.jsonl --task Classify --import my_app.batches --provider anthropic --model claude-haiku-4-5
    jq -c '{custom_id, method, url, body}' old.jsonl | overnight submit - --dry-run
    """
    from overnight.cli import submitting  # noqa: PLC0415 - imported when it runs

    if (file is None) == (batch is None):
        raise typer.BadParameter("Give either a file or --batch.", param_hint="FILE.jsonl")
    if batch is not None and key is not None:
        raise typer.BadParameter("A key names the batch that is made of a file.", param_hint="--key")
    if batch is not None:
        raise typer.Exit(finish(submitting.submitting_batch(batch, dry_run=dry_run, wait=wait, as_json=as_json)))
    options: dict[str, Any] = {
        "handler": handler,
        "handler_task_queue": handler_task_queue,
        "metadata": values.metadata(metadata or []),
        "max_cost": max_cost,
        "max_age": max_age,
        "allow_unknown_model": allow_unknown_model,
    }
    chosen = {"provider": provider, "model": model, "endpoint": endpoint}
    order = submitting.Order(
        file=str(file), form=form, task=task, modules=modules or [], chosen=chosen, options=options, key=key
    )
    raise typer.Exit(finish(submitting.submitting(order, dry_run=dry_run, wait=wait, as_json=as_json)))


@commands.command(rich_help_panel=BATCHES)
def estimate(
    target: Annotated[str, typer.Argument(metavar="FILE.jsonl|BATCH_ID", help="`-` is stdin.")],
    form: Form = None,
    task: TaskName = None,
    modules: Modules = None,
    provider: Provider = None,
    model: Model = None,
    endpoint: Endpoint = None,
    allow_unknown_model: AllowUnknownModel = False,
    as_json: AsJson = False,
) -> None:
    """Say what a file or a batch will use and cost, how that was found, and what it leaves out. Nothing is sent.

    Keys of the JSON: source, provider, model, endpoint, entries, request_bytes, and estimate with the fields of
    `overnight.Estimate`.

    \b
    overnight estimate requests.jsonl
    overnight estimate 01a201c2-3cab --json | jq .estimate.cost_at_most.billed
    """
    from overnight.cli import submitting  # noqa: PLC0415 - imported when it runs

    if values.is_batch(target):
        finish(submitting.submitting_batch(target, dry_run=True, as_json=as_json))
        return
    chosen = {"provider": provider, "model": model, "endpoint": endpoint}
    options = {"allow_unknown_model": allow_unknown_model}
    order = submitting.Order(file=target, form=form, task=task, modules=modules or [], chosen=chosen, options=options)
    finish(submitting.submitting(order, dry_run=True, as_json=as_json))
