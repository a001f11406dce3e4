"""Durable LLM batch inference on Temporal: hand in a batch, go home, find typed results in Postgres in the morning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overnight.batches import Batch, BatchFilter, BatchStatus, Cost, Entry, Outcome, Progress, ToolCall, Usage
    from overnight.campaigning import CampaignHandle
    from overnight.campaigns import Campaign
    from overnight.client import BatchHandle, Overnight
    from overnight.content import File, Image, Message
    from overnight.errors import NoOutputError, OvernightError, ProviderError, ResponseError, ServerError, UsageError
    from overnight.estimates import Estimate
    from overnight.handlers import BatchHandler, CampaignHandler
    from overnight.intake import RawRequest
    from overnight.markup import Html
    from overnight.provider_tools import CodeExecution, WebSearch
    from overnight.providers import supports_batch
    from overnight.providers.base import Response
    from overnight.request_files import read_requests
    from overnight.running import run
    from overnight.schedule import PollSchedule
    from overnight.settings import Settings
    from overnight.tasks import ModelSettings, Task
    from overnight.tools import ToolContext

_HOMES = {
    "overnight.batches": (
        "Batch",
        "BatchFilter",
        "BatchStatus",
        "Cost",
        "Entry",
        "Outcome",
        "Progress",
        "ToolCall",
        "Usage",
    ),
    "overnight.campaigning": ("CampaignHandle",),
    "overnight.campaigns": ("Campaign",),
    "overnight.client": ("BatchHandle", "Overnight"),
    "overnight.content": ("File", "Image", "Message"),
    "overnight.errors": (
        "NoOutputError",
        "OvernightError",
        "ProviderError",
        "ResponseError",
        "ServerError",
        "UsageError",
    ),
    "overnight.estimates": ("Estimate",),
    "overnight.handlers": ("BatchHandler", "CampaignHandler"),
    "overnight.intake": ("RawRequest",),
    "overnight.markup": ("Html",),
    "overnight.provider_tools": ("CodeExecution", "WebSearch"),
    "overnight.providers": ("supports_batch",),
    "overnight.providers.base": ("Response",),
    "overnight.request_files": ("read_requests",),
    "overnight.running": ("run",),
    "overnight.schedule": ("PollSchedule",),
    "overnight.settings": ("Settings",),
    "overnight.tasks": ("ModelSettings", "Task"),
    "overnight.tools": ("ToolContext",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "BatchFilter",
    "BatchHandle",
    "BatchHandler",
    "BatchStatus",
    "Campaign",
    "CampaignHandle",
    "CampaignHandler",
    "CodeExecution",
    "Cost",
    "Entry",
    "Estimate",
    "File",
    "Html",
    "Image",
    "Message",
    "ModelSettings",
    "NoOutputError",
    "Outcome",
    "Overnight",
    "OvernightError",
    "PollSchedule",
    "Progress",
    "ProviderError",
    "RawRequest",
    "Response",
    "ResponseError",
    "ServerError",
    "Settings",
    "Task",
    "ToolCall",
    "ToolContext",
    "Usage",
    "UsageError",
    "WebSearch",
    "read_requests",
    "run",
    "supports_batch",
]


def __getattr__(name: str) -> Any:
    """Names load at their first use: a worker's workflow code then imports no database driver, and no client waits for
    what it does not need.
    """
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
