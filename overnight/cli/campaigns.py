"""Campaigns, from the command line."""

from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from rich.table import Table

from overnight.campaigns import Campaign
from overnight.cli.batches import money
from overnight.cli.database import open_store
from overnight.cli.printing import console, print_json


async def listing(*, limit: int, campaign_id: UUID | None, as_json: bool) -> None:
    """Print one campaign, or the newest."""
    async with open_store() as store:
        found = [await store.campaigns.get(campaign_id)] if campaign_id else await store.campaigns.recent(limit=limit)
    if as_json:
        documents: list[dict[str, Any]] = to_jsonable_python(found)
        print_json(documents[0] if campaign_id else documents)
    else:
        console().print(_table(found) if found else "There are no campaigns.")
        for campaign in found:
            if campaign.skipped_round:
                console().print(f"{campaign.id}: {campaign.skipped_round}")


def _table(campaigns: list[Campaign]) -> Table:
    table = Table(
        "campaign", "provider", "model", "status", "entries", "batches", "round", "outcomes", "cost", box=None
    )
    for campaign in campaigns:
        table.add_row(
            str(campaign.id),
            campaign.provider,
            campaign.model,
            campaign.status,
            str(campaign.entry_count),
            _counts(campaign.batches),
            f"{campaign.round} of {campaign.rounds}",
            _counts(campaign.outcomes),
            money(campaign.cost),
        )
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True  # an id is there to be copied
    return table


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {word.value}" for word, count in counts.items())
