"""Durable LLM batch inference on Temporal: hand in a batch, go home, find typed results in Postgres in the morning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overnight.batches import Batch, BatchFilter, BatchStatus, Cost, Entry, Outcome, Progress, Usage
    from overnight.client import BatchHandle, Overnight
    from overnight.errors import NoOutputError, OvernightError, ProviderError, ResponseError, ServerError, UsageError
    from overnight.estimates import Estimate
    from overnight.handlers import BatchHandler
    from overnight.intake import RawRequest
    from overnight.providers.base import Message, Response
    from overnight.request_files import read_requests
    from overnight.schedule import PollSchedule
    from overnight.settings import Settings
    from overnight.tasks import Task

_HOMES = {
    "overnight.batches": ("Batch", "BatchFilter", "BatchStatus", "Cost", "Entry", "Outcome", "Progress", "Usage"),
    "overnight.client": ("BatchHandle", "Overnight"),
    "overnight.errors": (
        "NoOutputError",
        "OvernightError",
        "ProviderError",
        "ResponseError",
        "ServerError",
        "UsageError",
    ),
    "overnight.estimates": ("Estimate",),
    "overnight.handlers": ("BatchHandler",),
    "overnight.intake": ("RawRequest",),
    "overnight.providers.base": ("Message", "Response"),
    "overnight.request_files": ("read_requests",),
    "overnight.schedule": ("PollSchedule",),
    "overnight.settings": ("Settings",),
    "overnight.tasks": ("Task",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "BatchFilter",
    "BatchHandle",
    "BatchHandler",
    "BatchStatus",
    "Cost",
    "Entry",
    "Estimate",
    "Message",
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
    "Usage",
    "UsageError",
    "read_requests",
]


def __getattr__(name: str) -> Any:
    """Names load at their first use: a worker's workflow code then imports no database driver, and no client waits for
    what it does not need.
    """
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
