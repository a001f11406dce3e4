"""`overnight doctor`: what is wrong with the deployment, and batches that nobody looks after any more."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from overnight.campaigns import Campaign
from overnight.cli.ending import DONE, UNSUCCESSFUL
from overnight.client import Overnight
from overnight.doctor import (
    Check,
    Fate,
    Finding,
    Problem,
    Recovered,
    State,
    check_deployment,
    examine,
    lost_campaigns,
    reattach,
    reattach_campaign,
    recover,
)
from overnight.errors import ServerError, TemporalError
from overnight.settings import Settings

_MEANING = {
    Problem.NO_WORKFLOW: "Temporal knows no workflow of it",
    Problem.WORKFLOW_CLOSED: "its workflow was terminated or failed",
    Problem.SUBMISSION_IN_DOUBT: "a submission that was given up may have made a provider batch",
}
_FATES = {
    Fate.GOES_ON: "goes on; what it has at the provider is searched for before anything is created",
    Fate.CLOSED: "failed: submitted in the lost time; cancel it at the provider, and submit its entries anew",
    Fate.ROW_LOST: "its row is lost, its workflow terminated; cancel it at the provider, and submit its entries anew",
}
_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.SKIPPED: "dim"}


@dataclass(frozen=True, kw_only=True)
class _Forsaken:
    """What nobody looks after: batches, and campaigns."""

    findings: Sequence[Finding]
    campaigns: Sequence[Campaign]

    def __bool__(self) -> bool:
        return bool(self.findings or self.campaigns)


async def diagnosing(*, as_json: bool) -> int:
    """Print how every part is, and which batches need help; the exit code says whether something is wrong."""
    settings = Settings.from_environment()
    checks = [check async for check in check_deployment(settings)]
    failed = any(check.state is State.FAILED for check in checks)
    forsaken = await _found(settings)
    if not as_json:
        _print_checks(checks)
    _print(forsaken, checks=checks, helped=False, as_json=as_json)
    await asyncio.sleep(0.05)  # a process must not end right after temporalio's last call (sdk-python issue 300)
    return UNSUCCESSFUL if forsaken or failed else DONE


async def _found(settings: Settings) -> _Forsaken | None:
    """None where a server is away that would have to say: the checks tell which."""
    try:
        async with Overnight.connect(settings) as overnight:
            return await _forsaken(overnight)
    except ServerError:
        return None


async def _forsaken(overnight: Overnight) -> _Forsaken:
    return _Forsaken(findings=await examine(overnight), campaigns=await lost_campaigns(overnight))


async def helping(*, cancel: bool, as_json: bool) -> int:
    """Give each batch and campaign that needs help a workflow again.

    Raises:
        TemporalError: some could not be helped.
    """
    async with Overnight.connect() as overnight:
        forsaken = await _forsaken(overnight)
        helping = [
            *(reattach(overnight, finding, cancel=cancel) for finding in forsaken.findings),
            *(reattach_campaign(overnight, campaign, cancel=cancel) for campaign in forsaken.campaigns),
        ]
        failures = await _help(helping)
    if failures:
        raise TemporalError("; ".join(failures))
    _print(forsaken, checks=(), helped=True, as_json=as_json)
    return DONE


async def recovering(*, as_json: bool) -> int:
    """Bring everything that is in flight together with a database that was restored; the exit code says
    whether somebody must look at the provider.

    Raises:
        TemporalError: it does not answer.
    """
    async with Overnight.connect() as overnight:
        recovered = await recover(overnight)
    if as_json:
        rows = [{**_named(each), "fate": each.fate.value} for each in recovered]
        typer.echo(json.dumps({"recovered": rows}, indent=2))
    else:
        for each in recovered:
            ((what, name),) = _named(each).items()
            typer.echo(f"{'campaign ' if what == 'campaign_id' else ''}{name}  {_FATES[each.fate]}")
        batches = sum(each.batch_id is not None for each in recovered)
        typer.echo(f"{batches} batches were in flight. Start the workers now.")
    return UNSUCCESSFUL if any(each.fate is not Fate.GOES_ON for each in recovered) else DONE


def _named(recovered: Recovered) -> dict[str, str]:
    if recovered.batch_id is not None:
        return {"batch_id": str(recovered.batch_id)}
    return {"campaign_id": str(recovered.campaign_id)}


async def _help(helping: Sequence[Coroutine[Any, Any, None]]) -> list[str]:
    """Re-attach each; one that cannot be helped keeps no other from it."""
    failures = []
    for attempt in helping:
        try:
            await attempt
        except TemporalError as error:
            failures.append(str(error))
    return failures


def _console() -> Console:
    return Console(width=200 if not Console().is_terminal else None)


def _print_checks(checks: Sequence[Check]) -> None:
    table = Table("part", "state", "found", "what to do", box=None)
    for check in checks:
        colour = _COLOURS[check.state]
        table.add_row(check.part, f"[{colour}]{check.state.value}[/]", escape(check.found), escape(check.advice))
    _console().print(table)


def _print(forsaken: _Forsaken | None, *, checks: Sequence[Check], helped: bool, as_json: bool) -> None:
    if as_json:
        told = {"checks": [asdict(check) for check in checks], **_as_rows(forsaken), "helped": helped}
        typer.echo(json.dumps(told, indent=2))
    elif forsaken is not None:
        _print_forsaken(forsaken, helped=helped)


def _as_rows(forsaken: _Forsaken | None) -> dict[str, Any]:
    if forsaken is None:
        return {"findings": None, "campaigns": None}
    rows = [{"batch_id": str(found.batch.id), "problem": found.problem.value} for found in forsaken.findings]
    return {"findings": rows, "campaigns": [{"campaign_id": str(campaign.id)} for campaign in forsaken.campaigns]}


def _print_forsaken(forsaken: _Forsaken, *, helped: bool) -> None:
    if not forsaken:
        typer.echo("Every batch that was submitted is finished, or has its workflow.")
        return
    table = Table("batch", "status", "provider's id", "problem", box=None)
    for found in forsaken.findings:
        batch = found.batch
        table.add_row(str(batch.id), batch.status.value, batch.provider_batch_id or "", _MEANING[found.problem])
    for campaign in forsaken.campaigns:
        table.add_row(str(campaign.id), campaign.status.value, "", "a campaign without a workflow that runs")
    _console().print(table)
    typer.echo(
        "Each has a workflow again, which goes on where the batch stands."
        if helped
        else "`overnight doctor --fix` gives each a workflow again; with `--cancel` they are canceled as well."
    )
