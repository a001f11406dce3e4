"""`overnight doctor`: batches that nobody looks after any more."""

import json
from collections.abc import Coroutine, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from overnight.campaigns import Campaign
from overnight.cli.ending import DONE, UNSUCCESSFUL
from overnight.client import Overnight
from overnight.doctor import Finding, Problem, examine, lost_campaigns, reattach, reattach_campaign
from overnight.errors import TemporalError

_MEANING = {
    Problem.NO_WORKFLOW: "Temporal knows no workflow of it",
    Problem.WORKFLOW_CLOSED: "its workflow was terminated or failed",
    Problem.SUBMISSION_IN_DOUBT: "a submission that was given up may have made a provider batch",
}


async def examining(*, fix: bool, cancel: bool, as_json: bool) -> int:
    """Print what needs help, and help where asked to; the exit code says whether something still needs help."""
    async with Overnight.connect() as overnight:
        findings, campaigns = await examine(overnight), await lost_campaigns(overnight)
        helping = [
            *(reattach(overnight, finding, cancel=cancel) for finding in findings if fix or cancel),
            *(reattach_campaign(overnight, campaign, cancel=cancel) for campaign in campaigns if fix or cancel),
        ]
        failures = await _help(helping)
    if failures:
        raise TemporalError("; ".join(failures))
    _print(findings, campaigns, helped=fix or cancel, as_json=as_json)
    return UNSUCCESSFUL if (findings or campaigns) and not (fix or cancel) else DONE


async def _help(helping: Sequence[Coroutine[Any, Any, None]]) -> list[str]:
    """Re-attach each; one that cannot be helped keeps no other from it."""
    failures = []
    for attempt in helping:
        try:
            await attempt
        except TemporalError as error:
            failures.append(str(error))
    return failures


def _print(findings: list[Finding], campaigns: list[Campaign], *, helped: bool, as_json: bool) -> None:
    if as_json:
        rows = [{"batch_id": str(found.batch.id), "problem": found.problem.value} for found in findings]
        lost = [{"campaign_id": str(campaign.id)} for campaign in campaigns]
        typer.echo(json.dumps({"findings": rows, "campaigns": lost, "helped": helped}, indent=2))
        return
    if not findings and not campaigns:
        typer.echo("Every batch that was submitted is finished, or has its workflow.")
        return
    table = Table("batch", "status", "provider's id", "problem", box=None)
    for found in findings:
        batch = found.batch
        table.add_row(str(batch.id), batch.status.value, batch.provider_batch_id or "", _MEANING[found.problem])
    for campaign in campaigns:
        table.add_row(str(campaign.id), campaign.status.value, "", "a campaign without a workflow that runs")
    Console(width=200 if not Console().is_terminal else None).print(table)
    typer.echo(
        "Each has a workflow again, which goes on where the batch stands."
        if helped
        else "`overnight doctor --fix` gives each a workflow again; with `--cancel` they are canceled as well."
    )
