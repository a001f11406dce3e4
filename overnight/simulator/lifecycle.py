"""A batch's state as a pure function of what was stored and what time it is.

Nothing here happens on a timer, so a simulator that was down for an hour shows what an hour did.
"""

from dataclasses import dataclass
from typing import Literal

from overnight.simulator.faults import pinned_share
from overnight.simulator.records import BatchRecord

Stage = Literal["validating", "in_progress", "finalizing", "canceling", "ended", "canceled", "expired", "failed"]
Outcome = Literal["ended", "canceled", "expired", "failed"]
TERMINAL: frozenset[Stage] = frozenset({"ended", "canceled", "expired", "failed"})
ARCHIVED_AFTER = 29 * 86_400.0
"""Anthropic keeps results for 29 days, counted from creation."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The whole life of a batch as its facts foretell it; a cancel or a finish writes a new one."""

    validated_at: float
    stopped_at: float
    """No entry is worked on after this."""
    closed_at: float
    outcome: Outcome
    expires_at: float
    cancel_at: float | None
    span: float
    """How long all the work would take."""
    share: float | None
    """A scripted share of entries that are finished when the work stops."""


@dataclass(frozen=True, kw_only=True)
class State:
    stage: Stage
    done: int
    """Entries that are finished; the rest is canceled or expired once the stage is terminal."""
    timeline: Timeline

    @property
    def terminal(self) -> bool:
        return self.stage in TERMINAL


def timeline(batch: BatchRecord) -> Timeline:
    validated_at = _soonest(batch, batch.created_at + batch.stages.validating)
    worked_at = _soonest(batch, validated_at + batch.stages.in_progress)
    expires_at = batch.created_at + batch.stages.window
    doomed = pinned_share(batch.effects, "expire")
    if doomed is not None:
        expires_at = min(expires_at, worked_at)
    stopped_at = min(worked_at, expires_at)
    expired = doomed is not None or expires_at < worked_at
    plan = Timeline(
        validated_at=validated_at,
        stopped_at=stopped_at,
        closed_at=_soonest(batch, stopped_at + batch.stages.finalizing),
        outcome="expired" if expired else "ended",
        expires_at=expires_at,
        cancel_at=None,
        span=worked_at - validated_at,
        share=doomed,
    )
    return _failed(plan) if batch.failure else _canceled(batch, plan)


def _soonest(batch: BatchRecord, moment: float) -> float:
    return moment if batch.finish_at is None else max(batch.created_at, min(moment, batch.finish_at))


def _failed(plan: Timeline) -> Timeline:
    at = plan.validated_at
    return Timeline(**{**vars(plan), "stopped_at": at, "closed_at": at, "outcome": "failed", "share": 0.0})


def _canceled(batch: BatchRecord, plan: Timeline) -> Timeline:
    cancel_at = batch.cancel_at
    itself = pinned_share(batch.effects, "cancel_by_itself")
    if cancel_at is None and itself is not None:
        cancel_at = plan.validated_at + itself * plan.span
    if cancel_at is None or cancel_at >= plan.closed_at:
        return plan
    share = pinned_share(batch.effects, "cancel", "cancel_by_itself")
    closed_at = _soonest(batch, cancel_at + batch.stages.canceling)
    changes = {"cancel_at": cancel_at, "stopped_at": min(plan.stopped_at, cancel_at), "closed_at": closed_at}
    return Timeline(**{**vars(plan), **changes, "outcome": "canceled", "share": share})


def state(batch: BatchRecord, now: float) -> State:
    plan = timeline(batch)
    stage = _stage(plan, now)
    return State(stage=stage, done=_done(batch.total, plan, now), timeline=plan)


def _stage(plan: Timeline, now: float) -> Stage:
    if now >= plan.closed_at:
        return plan.outcome
    if plan.cancel_at is not None and now >= plan.cancel_at:
        return "canceling"
    if now < plan.validated_at:
        return "validating"
    return "in_progress" if now < plan.stopped_at else "finalizing"


def _done(total: int, plan: Timeline, now: float) -> int:
    elapsed = min(now, plan.stopped_at) - plan.validated_at
    fraction = min(1.0, elapsed / plan.span) if plan.span > 0 else 1.0
    if now < plan.validated_at or elapsed < 0:
        fraction = 0.0
    if now >= plan.stopped_at and plan.share is not None:
        fraction = plan.share
    return int(total * (fraction if plan.share is None else min(fraction, plan.share)))
