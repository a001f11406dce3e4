"""Anthropic's Message Batches."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from overnight.simulator.anthropic_input import split_requests
from overnight.simulator.calls import Call, pinned_effects, send_file
from overnight.simulator.engine import View
from overnight.simulator.errors import ApiError, json_response
from overnight.simulator.lifecycle import ARCHIVED_AFTER, state
from overnight.simulator.paging import paged, read_limit
from overnight.simulator.questions import MESSAGES
from overnight.simulator.records import BatchRecord, StoredStages
from overnight.simulator.uploads import spool

UNUSED = ("validating", "finalizing")
"""Stages that a message batch does not have."""


async def create(call: Call) -> Response:
    simulator, limits = call.simulator, call.simulator.config.limits
    body, requests = simulator.store.scratch(), simulator.store.scratch()
    refusal = ApiError("Request exceeds the maximum size", status=413)
    await spool(call.request, body, limits.anthropic_body_bytes, refusal)
    total, model = await asyncio.to_thread(split_requests, body, requests, limits.anthropic_requests)
    body.unlink()
    batch = BatchRecord(
        id=f"msgbatch_{uuid4().hex[:24]}",
        provider="anthropic",
        client=call.client,
        created_at=simulator.now(),
        stages=StoredStages(**{**vars(simulator.config.stages), **dict.fromkeys(UNUSED, 0.0)}),
        total=total,
        endpoint=MESSAGES,
        model=model,
        api_version=call.request.headers.get("anthropic-version", ""),
        effects=pinned_effects(simulator, "anthropic"),
    )
    requests.rename(simulator.store.input_of(batch.id))
    return json_response(batch_object(call, View.of_new(simulator.store.add_batch(batch))))


def batch_object(call: Call, view: View) -> dict[str, Any]:
    batch, plan = view.batch, view.state.timeline
    archived_at = _archived_at(view)
    readable = view.state.terminal and archived_at is None
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": _status(view),
        "request_counts": _counts(view),
        "created_at": _instant(batch.created_at),
        "expires_at": _instant(plan.expires_at),
        "ended_at": _instant(plan.closed_at) if view.state.terminal else None,
        "cancel_initiated_at": _instant(plan.cancel_at) if _canceling(view) else None,
        "archived_at": archived_at and _instant(archived_at),
        "results_url": f"{_base(call)}/v1/messages/batches/{batch.id}/results" if readable else None,
    }


def _base(call: Call) -> str:
    return str(call.request.base_url).rstrip("/")


def _instant(moment: float | None) -> str:
    return datetime.fromtimestamp(moment or 0.0, UTC).isoformat().replace("+00:00", "Z")


def _canceling(view: View) -> bool:
    cancel_at = view.state.timeline.cancel_at
    return cancel_at is not None and cancel_at <= view.now


def _archived_at(view: View) -> float | None:
    """Archived 29 days after creation; a scripted archive comes with the end."""
    if not view.state.terminal:
        return None
    at = view.batch.created_at + ARCHIVED_AFTER
    if view.batch.effect("archive"):
        at = view.state.timeline.closed_at
    return at if at <= view.now else None


def _status(view: View) -> str:
    scripted = view.batch.effect("status_word")
    if scripted and view.state.stage == "in_progress" and view.now >= view.batch.created_at:
        return scripted.word
    if view.state.terminal:
        return "ended"
    return "canceling" if view.state.stage == "canceling" else "in_progress"


def _counts(view: View) -> dict[str, int]:
    """Anthropic reports every entry as processing until the whole batch has ended."""
    total, tally = view.batch.total, view.tally
    if not view.state.terminal:
        return {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    left = total - tally.succeeded - tally.errored
    return {
        "processing": 0,
        "succeeded": tally.succeeded,
        "errored": tally.errored,
        "canceled": left if view.state.stage == "canceled" else 0,
        "expired": left if view.state.stage == "expired" else 0,
    }


def _find(call: Call) -> BatchRecord:
    batch_id = call.request.path_params["batch_id"]
    batch = call.simulator.store.batch(batch_id, "anthropic")
    if batch is None:
        raise ApiError(f"Message batch {batch_id} was not found.", status=404)
    return batch


async def retrieve(call: Call) -> Response:
    return json_response(batch_object(call, await call.simulator.view(_find(call))))


async def cancel(call: Call) -> Response:
    batch, now = _find(call), call.simulator.now()
    before = state(batch, now)
    if before.terminal:
        raise ApiError(f"Message batch {batch.id} has ended and cannot be canceled.")
    if before.stage != "canceling":
        batch = call.simulator.store.change_batch(batch, cancel_at=now)
    return json_response(batch_object(call, await call.simulator.view(batch)))


async def delete(call: Call) -> Response:
    batch = _find(call)
    if not state(batch, call.simulator.now()).terminal:
        raise ApiError(f"Message batch {batch.id} has not ended: cancel it before deleting it.")
    call.simulator.store.delete_batch(batch)
    return json_response({"id": batch.id, "type": "message_batch_deleted"})


async def results(call: Call) -> Response:
    view = await call.simulator.view(_find(call))
    if not view.state.terminal:
        raise ApiError(f"Message batch {view.batch.id} has no results yet.", status=404)
    if _archived_at(view):
        raise ApiError(f"The results of message batch {view.batch.id} are no longer available.", status=404)
    return send_file(call, call.simulator.store.path_of(view.batch.id), "application/x-jsonl")


async def list_batches(call: Call) -> Response:
    query = call.request.query_params
    limit = read_limit(query, default=20, most=1000)
    now = call.simulator.now()
    visible = [b for b in call.simulator.store.batches("anthropic") if b.created_at + call.list_lag <= now]
    chosen, more = paged(visible, limit, after=query.get("after_id"), before=query.get("before_id"))
    data = [batch_object(call, await call.simulator.view(batch)) for batch in chosen]
    first, last = (chosen[0].id, chosen[-1].id) if chosen else (None, None)
    return json_response({"data": data, "has_more": more, "first_id": first, "last_id": last})
