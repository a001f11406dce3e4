"""What a worker process can confine itself to, where one process is not enough."""

from enum import StrEnum


class Part(StrEnum):
    """A worker without one is both."""

    BATCHES = "batches"
    """The workflow and its short steps, polls above all."""

    BULK = "bulk"
    """Uploads, results and handlers: what takes the longer the larger a batch is."""
