"""The effectful half of the application: one module per step, in the workflow's words."""

from collections.abc import Callable, Sequence
from typing import Any

from activities.campaigns import CampaignActivities
from activities.cancel import CancelActivities
from activities.clean_up import CleanUpActivities
from activities.fetch_status import PollActivities
from activities.finalize import IngestActivities
from activities.report_trouble import TroubleActivities
from activities.services import Services
from activities.submit import SubmitActivities

__all__ = ["Services", "batch_activities"]


def batch_activities(services: Services) -> Sequence[Callable[..., Any]]:
    """What runs wherever batches run; it needs the providers' keys and none of the user's code."""
    submit, poll, cancel, ingest, campaign = (
        SubmitActivities(services),
        PollActivities(services),
        CancelActivities(services),
        IngestActivities(services),
        CampaignActivities(services),
    )
    return [
        submit.open_batch,
        submit.upload_entries,
        submit.create_provider_batch,
        poll.fetch_status,
        cancel.cancel_batch,
        cancel.expire_batch,
        ingest.ingest_results,
        TroubleActivities(services).report_trouble,
        CleanUpActivities(services).clean_up,
        campaign.open_campaign,
        campaign.look_at_batches,
        campaign.stop_campaign,
        campaign.settle_campaign,
    ]
