"""The effectful half of the application: one module per step, in the workflow's words.

All of it needs the providers' keys and none of the user's code.
"""

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

__all__ = ["Services", "bulk_activities", "short_activities"]


def short_activities(services: Services) -> Sequence[Callable[..., Any]]:
    """One transaction or one question to a provider each, whatever the size of the batch."""
    submit, cancel, campaign = SubmitActivities(services), CancelActivities(services), CampaignActivities(services)
    return [
        submit.open_batch,
        PollActivities(services).fetch_status,
        cancel.cancel_batch,
        cancel.expire_batch,
        TroubleActivities(services).report_trouble,
        campaign.open_campaign,
        campaign.look_at_batches,
        campaign.stop_campaign,
        campaign.settle_campaign,
    ]


def bulk_activities(services: Services) -> Sequence[Callable[..., Any]]:
    """The longer the larger the batch is; what runs the user's code is such as well, and in `overnight.handling`."""
    submit = SubmitActivities(services)
    return [
        submit.upload_entries,
        submit.create_provider_batch,
        IngestActivities(services).ingest_results,
        CleanUpActivities(services).clean_up,
    ]
