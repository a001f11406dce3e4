"""The commands, their options and their help. What they do is imported when they run."""

import os
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from overnight.cli import batch_commands, file_commands
from overnight.cli.ending import EXPLAINED
from overnight.cli.options import AsJson, Modules, finish
from overnight.parts import Part


class LogLevel(StrEnum):
    """What a process logs at least."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


app = typer.Typer(
    name="overnight",
    help="Durable LLM batch inference: hand in a batch, go home, find typed results in Postgres in the morning.",
    epilog=EXPLAINED,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and keys and prompts are among those
)
db = typer.Typer(help="The database schema.", no_args_is_help=True)
app.add_typer(db, name="db")
temporal = typer.Typer(help="The Temporal namespace.", no_args_is_help=True)
app.add_typer(temporal, name="temporal")

app.add_typer(file_commands.commands)
app.add_typer(batch_commands.commands)

Level = Annotated[LogLevel, typer.Option(case_sensitive=False, help="What is logged at least.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 is any free one.")]
WholeBatchId = Annotated[UUID, typer.Argument(metavar="BATCH_ID", help="The whole id.")]


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database at OVERNIGHT_DATABASE_URL to the schema of this version."""
    from overnight.cli.database import upgrade  # noqa: PLC0415 - imported when it runs

    typer.echo(f"The schema is at version {finish(upgrade())}.")


@db.command("roles")
def db_roles(
    prefix: Annotated[str, typer.Option(help="What the names of the roles begin with.")] = "overnight",
    apply: Annotated[bool, typer.Option("--apply", help="Run it on OVERNIGHT_DATABASE_URL instead.")] = False,
) -> None:
    """Print the SQL that makes the Postgres roles for migrations, workers, clients and readers. Running it again, after
    an upgrade or a restore, puts every grant right.
    """
    from overnight.cli.database import apply_roles  # noqa: PLC0415 - imported when it runs
    from overnight.storage.roles import roles_sql  # noqa: PLC0415 - "

    if not apply:
        typer.echo(roles_sql(prefix))
        return
    finish(apply_roles(prefix))
    typer.echo(f"The roles {prefix}_migrations, _worker, _client and _reader have what they need.")


@temporal.command("setup")
def temporal_setup(as_json: AsJson = False) -> None:
    """Register the search attributes in the namespace that TEMPORAL_NAMESPACE names; repeating it changes nothing.

    Keys of the JSON: namespace, search_attributes (name to "added" or "present").
    """
    from overnight.cli.temporal import setting_up  # noqa: PLC0415 - imported when it runs

    finish(setting_up(as_json=as_json))


@app.command()
def worker(
    modules: Modules = None,
    log_level: Level = LogLevel.INFO,
    only: Annotated[
        Part | None,
        typer.Option(
            help="One part, where others have processes of their own: `batches` polls, `bulk` uploads, reads results "
            "and runs handlers."
        ),
    ] = None,
) -> None:
    """Run batches: the Batch workflow and its activities, until SIGINT or SIGTERM."""
    from overnight.cli.application import become_worker  # noqa: PLC0415 - imported when it runs

    become_worker(modules or [], log_level=log_level, only=only)


@app.command()
def handlers(
    task_queue: Annotated[
        str, typer.Option(metavar="NAME", help="The task queue that batches name as their handler_task_queue.")
    ],
    modules: Modules = None,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Run the handlers of batches in a process of their own, until SIGINT or SIGTERM; it needs no provider's key."""
    from overnight.cli.handlers import run_handlers  # noqa: PLC0415 - imported when it runs

    run_handlers(modules or [], task_queue=task_queue, log_level=log_level)


@app.command()
def dev(
    modules: Modules = None,
    folder: Annotated[Path, typer.Option(help="Where data and logs are kept.")] = Path(".overnight"),
) -> None:
    """Run everything on this machine: Postgres, Temporal with its UI, simulated providers, a worker and, with the extra
    `ui`, the web console. Ctrl-C ends all of it.
    """
    from overnight.cli.extras import require_embedded  # noqa: PLC0415 - imported when it runs

    require_embedded("overnight dev")
    from overnight.cli.dev import develop  # noqa: PLC0415 - needs the extra

    finish(develop(modules or [], folder.absolute()))


@app.command()
def prune(
    days: Annotated[float, typer.Option(min=0, help="Since the handler ran.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete prompts and responses of old batches. Counts, tokens and costs stay."""
    from overnight.cli.retention import pruning  # noqa: PLC0415 - imported when it runs

    finish(pruning(timedelta(days=days), dry_run=dry_run, as_json=as_json))


@app.command()
def erase(batch_id: WholeBatchId, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete everything of one batch but its counts, costs and dates: entries, custom ids, answers, metadata."""
    from overnight.cli.retention import erasing  # noqa: PLC0415 - imported when it runs

    if not yes:
        typer.confirm(f"Erase all entries of batch {batch_id}? This cannot be undone", abort=True)
    finish(erasing(batch_id))


@app.command("codec-server")
def codec_server(
    host: Annotated[str, typer.Option(help="Where to listen; off loopback OVERNIGHT_CODEC_SERVER_TOKEN is needed.")] = (
        "127.0.0.1"
    ),
    port: Port = 8081,
    ui_origin: Annotated[
        list[str] | None, typer.Option(help="Where Temporal's UI is served; may be given more than once.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="A further host name of this server.")] = None,
) -> None:
    """Let Temporal's UI and CLI show payloads that OVERNIGHT_CODEC_KEYS encrypts."""
    from overnight.cli.extras import require_codec  # noqa: PLC0415 - imported when it runs

    require_codec("overnight codec-server")
    from overnight.cli.codec_server import serve_codec  # noqa: PLC0415 - needs the extra

    origins = ui_origin or ["http://localhost:8233", "http://localhost:8080"]
    finish(serve_codec(host=host, port=port, ui_origins=origins, names=name or []))


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Where to listen; off loopback OVERNIGHT_UI_TOKEN is needed.")] = (
        "127.0.0.1"
    ),
    port: Port = 8420,
    temporal_ui: Annotated[
        str | None,
        typer.Option(envvar="OVERNIGHT_TEMPORAL_UI_URL", help="Where Temporal's UI is served, for links to workflows."),
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="A further host name of this server.")] = None,
) -> None:
    """Look at batches, campaigns, entries and costs in a browser. Nothing can be changed there."""
    from overnight.cli.extras import require_ui  # noqa: PLC0415 - imported when it runs

    require_ui("overnight ui")
    from overnight.cli.ui import serve_console  # noqa: PLC0415 - needs the extra

    finish(serve_console(host=host, port=port, names=name or [], temporal_ui=temporal_ui))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    short_help="Run the provider simulator; `overnight simulate --help` lists its options.",
)
def simulate(context: typer.Context) -> None:
    """Run the provider simulator. Its options are its own."""
    from overnight.cli.extras import require_embedded  # noqa: PLC0415 - imported when it runs

    require_embedded("overnight simulate")
    from overnight.simulator.__main__ import main as simulator  # noqa: PLC0415 - needs the extra

    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings; a responder is the user's own module
    raise typer.Exit(simulator(context.args))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, for looking around, until Ctrl-C.")] = False,
    entries: Annotated[int, typer.Option(min=1, help="How many review snippets each batch holds.")] = 300,
    folder: Annotated[Path, typer.Option(help="Where input, data and logs are.")] = Path(".demo"),
) -> None:
    """Take sentences from real reviews through Temporal, Postgres and both providers, and show what comes out.

    The providers are simulated, unless OVERNIGHT_DEMO_PROVIDER names one (openai, anthropic) and its key is set.
    """
    from overnight.cli.extras import require_embedded  # noqa: PLC0415 - imported when it runs

    require_embedded("overnight demo")
    from overnight.cli.demo.command import Options, demonstrate  # noqa: PLC0415 - needs the extra

    raise typer.Exit(finish(demonstrate(Options(keep=keep, entries=entries, folder=folder.absolute()))))


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Give each batch found a workflow again.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give each a workflow again, and cancel it.")] = False,
    restored: Annotated[
        bool,
        typer.Option(
            "--restored",
            help="Postgres was restored to an earlier moment: bring everything in flight together with it. "
            "With all workers stopped, before the first one starts.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how every part of the deployment is, and which batches lost their workflow or are in doubt. Exit code 3 when
    something is wrong. Nothing is paid.
    """
    from overnight.cli.doctor import diagnosing, helping, recovering  # noqa: PLC0415 - imported when it runs

    if restored:
        work = recovering(as_json=as_json)
    else:
        work = helping(cancel=cancel, as_json=as_json) if fix or cancel else diagnosing(as_json=as_json)
    raise typer.Exit(finish(work))
