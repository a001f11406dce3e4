"""The deterministic half of the application: what happens to a batch or a campaign, and in which order."""

from workflows.batch import BatchWorkflow
from workflows.campaign import CampaignWorkflow

__all__ = ["BatchWorkflow", "CampaignWorkflow"]
