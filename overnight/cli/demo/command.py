"""The demo from start to end."""

import asyncio
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from overnight.cli.demo import responder, reviews
from overnight.cli.demo.archive import Archive
from overnight.cli.demo.findings import find, shortcomings
from overnight.cli.demo.job import Work, plan_work, resume_or_submit
from overnight.cli.demo.parts import Scope, choose
from overnight.cli.demo.report import show_batches, show_links, show_results, show_thresholds
from overnight.cli.demo.watching import watch
from overnight.cli.local import NO_CONSOLE, Local, Plan, running
from overnight.client import BatchHandle, Overnight
from overnight.contracts import workflow_id
from overnight.embedded import stop_on_signals
from overnight.errors import ConfigurationError, EmbeddedServerError

_WIDTH_WITHOUT_TERMINAL = 150
# The simulated batches take about ten seconds; this is for a machine that has much else to do.
_PATIENCE_SECONDS = 300.0
_STAGES = ("--validating", "1", "--in-progress", "5", "--finalizing", "1")


@dataclass(frozen=True, kw_only=True)
class Options:
    """As given on the command line."""

    keep: bool
    entries: int
    folder: Path


async def demonstrate(options: Options) -> int:
    """Run the demo; the exit code is 0 only if every entry has its outcome and the handler has run.

    Raises:
        UsageError: its input, or the key for a real provider, is not there.
        ServerError: something did not start, or died.
    """
    started = time.monotonic()
    console = _console()
    archive = Archive(options.folder / "data")
    work = plan_work(choose(os.environ), archive.snippets(), options.entries)
    with stop_on_signals(), _alone(options.folder):
        _introduce(console, work)
        plan = _plan(options.folder, work.scope, archive, keep=options.keep)
        async with running(plan) as local:
            console.print(f"Everything is up after {time.monotonic() - started:.0f} s.\n")
            code = await _take_through(console, work, local, keep=options.keep)
            console.print(f"This took {time.monotonic() - started:.0f} s. Logs: {plan.logs}")
            if options.keep:
                await _stay(console, local)
    return code


async def _take_through(console: Console, work: Work, local: Local, *, keep: bool) -> int:
    _adopt(local.environment)
    await reviews.create_table(local.stack.postgres.url)
    async with Overnight.connect() as overnight:
        handles = await resume_or_submit(console, overnight, work)
        await watch(handles, console, _check(work.scope, local))
        return await _report(console, work, handles, local, keep=keep)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)


def _introduce(console: Console, work: Work) -> None:
    names = " and ".join(f"{part.provider} ({part.model})" for part in work.scope.parts)
    console.print(f"[bold]{work.size} human-rated sentences from product reviews to: {names}[/bold]")
    if work.scope.simulated:
        console.print(
            "The provider is simulated; its answers come from VADER, a rule-based classifier. Everything else is real: "
            "Postgres, Temporal, the worker, the wire formats."
        )
    else:
        console.print("This is the real provider, with your key and at its own pace: minutes or hours, a day at most.")
    console.print("Starting Postgres, Temporal and a worker ...")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One demo at a time in a folder: the next one begins by removing the state of the one before.

    Raises:
        ConfigurationError: another one is running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another demo is running in {folder}. End it, or give this one another --folder."
            ) from None
        yield


def _plan(folder: Path, scope: Scope, archive: Archive, *, keep: bool) -> Plan:
    state, logs = folder / scope.name, folder / "logs"
    if scope.simulated:
        shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    # What our own libraries have to say would tear the live display apart.
    logging.basicConfig(filename=logs / "demo.log", level=logging.INFO, force=True)
    module = archive.unpack_classifier(folder / "data" / "vader")
    return Plan(
        folder=state,
        logs=logs,
        simulated=[part.provider for part in scope.parts] if scope.simulated else (),
        modules=[reviews.__name__],
        simulator_options=[*_STAGES, "--responder", f"{responder.__name__}:{responder.VaderResponder.__name__}"],
        extra_environment={responder.MODULE_VARIABLE: str(module)},
        console=keep,
    )


def _check(scope: Scope, local: Local) -> Callable[[], None]:
    """Whether waiting on makes sense: everything lives, and, where batches take seconds, not minutes have passed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS

    def check() -> None:
        local.raise_if_ended()
        if scope.simulated and time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"The batches did not come to an end in {_PATIENCE_SECONDS:.0f} s. {local.last_words()}"
            )

    return check


def _adopt(environment: Mapping[str, str]) -> None:
    """From here on this process is a user's script beside the worker, with the same environment."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


async def _report(console: Console, work: Work, handles: Sequence[BatchHandle], local: Local, *, keep: bool) -> int:
    findings = [await find(handle, work.snippets, local.stack.postgres.url) for handle in handles]
    show_results(console, findings)
    show_batches(console, findings)
    show_thresholds(console, simulated=work.scope.simulated)
    links = [local.stack.temporal.workflow_url(workflow_id(handle.id)) for handle in handles]
    show_links(console, links, keep=keep)
    problems = [problem for finding in findings for problem in shortcomings(finding)]
    for problem in problems:
        console.print(problem, style="red", markup=False)
    if not problems:
        console.print("\n[green]Every entry has its outcome, and the handler has run once per batch.[/green]")
    return 1 if problems else 0


async def _stay(console: Console, local: Local) -> None:
    console.print("\n[bold]Everything stays up until Ctrl-C[/bold]")
    console.print(f"Console      {local.console_url or NO_CONSOLE}", markup=False)
    console.print(f"Temporal UI  {local.stack.temporal.ui_url}")
    console.print(f"Database     {local.stack.postgres.dsn}", soft_wrap=True)
    console.print(f"Worker's log {local.worker.program.log_file}", soft_wrap=True)
    while True:
        local.raise_if_ended()
        await asyncio.sleep(1)
