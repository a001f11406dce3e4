"""`overnight dev`: everything that a user's own scripts need, on this machine, until Ctrl-C."""

import asyncio
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from overnight.cli.environment import PROVIDERS, without_keys
from overnight.cli.local import NO_CONSOLE, Local, Plan, Ports, running
from overnight.embedded import stop_on_signals

# The usual ports where they are free, so that what a user has noted down stays true from run to run.
_PORTS = Ports(postgres=54_329, temporal=7233, ui=8233, simulator=8430, console=8420)
_LOOK_SECONDS = 0.3


async def develop(modules: Sequence[str], folder: Path) -> None:
    """Start everything, say how to reach it, and show the worker's log until Ctrl-C.

    Raises:
        EmbeddedServerError: something did not start, or died.
    """
    simulated = without_keys(os.environ)
    plan = Plan(
        folder=folder,
        logs=folder / "logs",
        simulated=simulated,
        modules=modules,
        extra_environment={"OVERNIGHT_LOG_ERROR_TEXTS": "true", **_impatience(simulated)},
        ports=_PORTS,
        console=True,
    )
    console = Console(soft_wrap=True, highlight=False)
    with stop_on_signals():
        console.print("Starting Postgres, Temporal and a worker ...")
        async with running(plan) as local:
            _tell(console, plan, local)
            with suppress(asyncio.CancelledError):  # how it is meant to end, and no failure
                await _follow(local)
            console.print("\nStopping ...")


def _impatience(simulated: Collection[str]) -> dict[str, str]:
    """The simulator is done within seconds, and whoever develops sits there waiting. Real providers are not hurried."""
    if "OVERNIGHT_POLL_WAITS" in os.environ or set(simulated) != set(PROVIDERS):
        return {}
    return {"OVERNIGHT_POLL_WAITS": "1,2,5"}


def _tell(console: Console, plan: Plan, local: Local) -> None:
    exports = exports_of({**local.variables, **_impatience(plan.simulated)})
    script = plan.folder / "env"
    script.touch(mode=0o600)
    script.write_text(exports)
    real = [name for name in PROVIDERS if name not in plan.simulated]
    console.print(f"\n[bold]For your own scripts[/bold] (also in {script}):\n")
    console.print(exports, markup=False)
    console.print(f"Console       {local.console_url or NO_CONSOLE}", markup=False)
    console.print(f"Temporal UI   {local.stack.temporal.ui_url}")
    console.print(f"Simulated     {', '.join(plan.simulated) or 'nothing'}")
    console.print(f"Real          {', '.join(real) or 'nothing: no provider key is set'}")
    console.print(f"Worker        {', '.join(plan.modules) or 'no module of yours; give one with --import'}")
    console.print(f"Logs          {plan.logs}\n\nCtrl-C ends it. The worker says:")


def exports_of(variables: Mapping[str, str]) -> str:
    """Lines for a shell."""
    return "".join(f"export {name}='{value}'\n" for name, value in variables.items())


async def _follow(local: Local) -> None:
    """Show what the worker logs, for as long as everything lives."""
    with local.worker.program.log_file.open(errors="replace") as log:
        log.seek(local.worker.log_start)
        while True:
            sys.stdout.write(log.read())
            sys.stdout.flush()
            local.raise_if_ended()
            await asyncio.sleep(_LOOK_SECONDS)
