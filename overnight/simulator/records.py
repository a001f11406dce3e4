"""What the simulator remembers: facts as they were accepted. States are derived from them, never stored."""

from typing import Literal

from overnight.simulator.faults import BatchEffect, PinnedEffect, Spec
from overnight.simulator.models import Provider


class FileRecord(Spec):
    id: str
    purpose: str
    filename: str
    size: int
    created_at: float
    expires_at: float | None = None


class StoredStages(Spec):
    """The stages that held when the batch was created: a restart with other settings does not rewrite its past."""

    validating: float
    in_progress: float
    finalizing: float
    canceling: float
    window: float


class BatchErrorRecord(Spec):
    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Tally(Spec):
    """What the finished entries came to."""

    succeeded: int = 0
    errored: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class BatchRecord(Spec):
    id: str
    ordinal: int = 0
    """Counts the provider's batches in this state folder; ids inside result lines are made from it."""
    provider: Provider
    client: str
    created_at: float
    stages: StoredStages
    total: int
    endpoint: str
    model: str | None = None
    input_tokens: int = 0
    api_version: str = ""
    input_file_id: str = ""
    metadata: dict[str, str] | None = None
    output_lifetime: float | None = None
    failure: tuple[BatchErrorRecord, ...] = ()
    effects: tuple[PinnedEffect, ...] = ()
    cancel_at: float | None = None
    finish_at: float | None = None
    """Set from outside to end the batch at once; everything still open is finished by then."""
    settled: Tally | None = None
    """Set together with the result files, once, when the batch is first seen in a terminal state."""
    output_file_id: str | None = None
    error_file_id: str | None = None

    def effect(self, how: str) -> BatchEffect | None:
        return next((e for e in self.effects if isinstance(e, BatchEffect) and e.how == how), None)


class CallCount(Spec):
    provider: str
    operation: str
    client: str
    status: int
    """The HTTP status that was sent, 0 where the connection was dropped instead."""
    count: int


Order = Literal["asc", "desc"]
