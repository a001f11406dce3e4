"""What a simulator is started with. Everything has a default that behaves like the real service, only faster."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from overnight.simulator.faults import Fault
from overnight.simulator.models import Responder

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Stages:
    """How long a batch stays in each status, in seconds of the simulator's clock.

    Anthropic has no validation stage and no finalizing stage: there a batch is in progress, then ended.
    """

    validating: float = 1.0
    in_progress: float = 5.0
    finalizing: float = 1.0
    canceling: float = 1.0
    window: float = 86_400.0
    """After this long, counted from creation, entries that are not finished expire."""

    def at_speed(self, speed: float) -> "Stages":
        """The same stages, `speed` times as fast. The completion window stays a promise of its own."""
        quick = {f.name: getattr(self, f.name) / speed for f in fields(self) if f.name != "window"}
        return Stages(**quick, window=self.window)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The providers' published limits; lower them to meet a limit in a test without a large file."""

    openai_requests: int = 50_000
    openai_file_bytes: int = 200 * MIB
    openai_embedding_inputs: int = 50_000
    openai_enqueued_tokens: int | None = None
    """Prompt tokens per model in unfinished batches; over it a batch fails with `token_limit_exceeded`."""
    anthropic_requests: int = 100_000
    anthropic_body_bytes: int = 256 * MIB


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    state_dir: Path | None = None
    """Where objects and files live; None means a temporary folder that goes with the simulator."""
    seed: int = 0
    stages: Stages = field(default_factory=Stages)
    limits: Limits = field(default_factory=Limits)
    responder: Responder | str | None = None
    """What answers: a callable, "module:attribute", or None for the default that answers from the request."""
    faults: tuple[Fault, ...] = ()
    """Scripted faults, added when the state folder is first made; a restart does not add them again."""
    keys: frozenset[str] | None = None
    """The API keys that are accepted; None accepts every key that does not start with `invalid`."""
    openai_models: tuple[str, ...] = ("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*", "ft:*")
    anthropic_models: tuple[str, ...] = ("claude-*",)

    ranges: bool = False
    """Whether a download can begin in the middle of a file (`Range: bytes=1000-`). Neither provider says that it can;
    gateways and compatible servers often do."""

    def accepts(self, key: str) -> bool:
        return key in self.keys if self.keys is not None else not key.startswith("invalid")
