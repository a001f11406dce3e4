"""Scripted faults: which calls they meet, and what happens to those calls.

A fault is a `match` and an `effect`, the same in Python, over the control endpoint and in a script file:

    {"match": {"provider": "openai", "operation": "batches.create", "times": 1}, "effect": {"kind": "answer_lost"}}

Three families of effects. *Call effects* meet an HTTP call. *Batch effects* and *line effects* meet
`batches.create`, once the create is accepted, and are pinned to the batch that it made: what is pinned stays,
whatever happens to the script afterwards.
"""

import fnmatch
from collections.abc import Sequence
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from overnight.simulator.models import Provider


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(Spec):
    """Which calls a fault meets. Counts go over the calls that fit provider and operation."""

    provider: Provider | None = None
    operation: str = "*"
    """Such as `batches.create`; a pattern with `*`, or the last word alone (`results`, `create`)."""
    skip: int = Field(default=0, ge=0)
    """Let this many calls through first: 2 means that the third call is the first to meet the fault."""
    times: int | None = Field(default=None, ge=1)
    """Meet this many calls, then never again; None has no end."""
    probability: float = Field(default=1.0, ge=0, le=1)
    for_seconds: float | None = Field(default=None, ge=0)
    """Ends this long after the fault was added, on the simulator's clock."""

    def fits(self, provider: Provider, operation: str) -> bool:
        by_name = fnmatch.fnmatchcase(operation, self.operation) or operation.endswith(f".{self.operation}")
        return by_name and self.provider in {None, provider}


class StatusEffect(Spec):
    """Refused with a status before any work is done. `status_after_accept` does the work first."""

    kind: Literal["status", "status_after_accept"]
    status: int = Field(default=500, ge=400, le=599)
    retry_after: str | float | None = None
    """The header's value: seconds, or an HTTP date; None sends no such header."""
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    """None means the provider's own error body for that status."""


class HtmlEffect(Spec):
    """A page from some proxy in between, where JSON was promised; no work is done."""

    kind: Literal["html"] = "html"
    status: int = Field(default=502, ge=200, le=599)
    content_type: str = "text/html"
    """Some proxies do not even say that it is a page."""
    body: str = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class DropEffect(Spec):
    """The connection closes without an answer: `answer_lost` after the work is done, `dropped` before."""

    kind: Literal["answer_lost", "dropped"]


class CutEffect(Spec):
    """The connection closes after this many bytes of the body."""

    kind: Literal["cut"] = "cut"
    after_bytes: int = Field(default=0, ge=0)


class ShortEffect(Spec):
    """A result file ends early, and its length says that this is all; other faults still meet the call."""

    kind: Literal["short"] = "short"
    lines: int = Field(default=0, ge=0)
    """So many lines come."""
    half_line: bool = False
    """And then half of the next one."""


class DelayEffect(Spec):
    """Answers late; other faults still meet the call."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0)


class ListLagEffect(Spec):
    """Lists do not show yet what is younger than this; other faults still meet the call."""

    kind: Literal["list_lag"] = "list_lag"
    seconds: float = Field(gt=0)


class BatchEffect(Spec):
    """Something happens to the batch as a whole.

    `fail`: it turns `failed` with `code` and `message` (OpenAI alone can do that).
    `status_word`: reports `word` in place of its in-progress status, for that stage.
    `expire`: expires when its work stage is over, with the given share finished.
    `cancel`: whenever it is canceled, exactly the given share is finished.
    `cancel_by_itself`: somebody else cancels it once the given share is finished.
    `archive`: its results are gone as soon as it has ended.
    `late_files`: a terminal batch does not name its files yet, for `seconds` (OpenAI).
    """

    kind: Literal["batch"] = "batch"
    how: Literal["fail", "status_word", "expire", "cancel", "cancel_by_itself", "archive", "late_files"]
    code: str = "token_limit_exceeded"
    message: str = "Enqueued token limit reached. Please try again once some in_progress batches have been completed."
    word: str = "scheduling"
    share: float = Field(default=0.5, ge=0, le=1)
    seconds: float = 2.0


class LineEffect(Spec):
    """Something is wrong with result lines, in the order in which they are written.

    `duplicate`: the line comes once more, at the end of its file.
    `missing`: the line never comes.
    `unknown_id`: one more line comes, for a custom_id that nobody sent.
    `malformed`: the line is cut in the middle, so it is no JSON.
    `wrong_shape`: valid JSON that is no result line; the shapes take turns.
    `line_separator`, `nul`, `lone_surrogate`: the answer holds a raw U+2028, an escaped U+0000, an escaped U+D800.
    `huge`: the answer is `size` bytes long.
    """

    kind: Literal["lines"] = "lines"
    how: Literal[
        "duplicate",
        "missing",
        "unknown_id",
        "malformed",
        "wrong_shape",
        "line_separator",
        "nul",
        "lone_surrogate",
        "huge",
    ]
    count: int | None = Field(default=1, ge=1)
    """How many lines; None means all that fit `custom_ids`."""
    custom_ids: tuple[str, ...] = ("*",)
    """Which entries: custom_ids, or patterns with `*`."""
    size: int = Field(default=20 * 1024 * 1024, ge=1)

    def fits(self, custom_id: str) -> bool:
        return any(fnmatch.fnmatchcase(custom_id, pattern) for pattern in self.custom_ids)


PinnedEffect = Annotated[BatchEffect | LineEffect, Field(discriminator="kind")]
Effect = Annotated[
    StatusEffect
    | HtmlEffect
    | DropEffect
    | CutEffect
    | ShortEffect
    | DelayEffect
    | ListLagEffect
    | BatchEffect
    | LineEffect,
    Field(discriminator="kind"),
]


class Fault(Spec):
    match: Match = Field(default_factory=Match)
    effect: Effect


FAULTS: TypeAdapter[tuple[Fault, ...]] = TypeAdapter(tuple[Fault, ...])


def read_faults(script: str | bytes) -> tuple[Fault, ...]:
    """A fault script: a JSON list of faults. Raises pydantic's ValidationError, which is a ValueError."""
    return FAULTS.validate_json(script)


class LiveFault(Spec):
    """A fault with its history, as it is stored."""

    id: int
    fault: Fault
    added_at: float
    seen: int = 0
    met: int = 0

    def pinned(self) -> bool:
        return isinstance(self.fault.effect, BatchEffect | LineEffect)

    def meets(self, seed: int, now: float) -> bool:
        """Whether the next fitting call meets this fault; chance depends on seed, fault and call number alone."""
        match = self.fault.match
        if self.seen < match.skip or (match.times is not None and self.met >= match.times):
            return False
        if match.for_seconds is not None and now > self.added_at + match.for_seconds:
            return False
        return match.probability >= 1 or Random(f"{seed}:{self.id}:{self.seen}").random() < match.probability

    def after(self, *, met: bool) -> "LiveFault":
        return self.model_copy(update={"seen": self.seen + 1, "met": self.met + int(met)})


def passive(effect: Any) -> bool:
    """Effects that change a call without answering it."""
    return isinstance(effect, ShortEffect | DelayEffect | ListLagEffect)


def pinned_share(effects: Sequence[BatchEffect | LineEffect], *hows: str) -> float | None:
    return next((e.share for e in effects if isinstance(e, BatchEffect) and e.how in hows), None)
