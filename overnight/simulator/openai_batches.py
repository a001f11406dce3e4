"""OpenAI's Batches."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from overnight.simulator.calls import Call, body_object, pinned_effects
from overnight.simulator.engine import Simulator, View
from overnight.simulator.errors import ApiError, json_response
from overnight.simulator.faults import BatchEffect, PinnedEffect
from overnight.simulator.lifecycle import State, Timeline, state
from overnight.simulator.openai_files import check_lifetime, find_file
from overnight.simulator.openai_input import Scan, scan_input
from overnight.simulator.paging import paged, read_limit
from overnight.simulator.questions import CHAT, EMBEDDINGS, RESPONSES
from overnight.simulator.records import BatchErrorRecord, BatchRecord, StoredStages, Tally

ENDPOINTS = (RESPONSES, CHAT, EMBEDDINGS)
WORDS = {"ended": "completed", "canceled": "cancelled", "canceling": "cancelling"}
"""Where OpenAI's word for a stage is not ours."""


async def create(call: Call) -> Response:
    body = await body_object(call)
    simulator = call.simulator
    lifetime, metadata = _check_create(body)
    source = find_file(call, body["input_file_id"])
    if source.purpose != "batch":
        raise ApiError("The input file must have the purpose 'batch'.", param="input_file_id")
    path = simulator.store.path_of(source.id)
    scan = await asyncio.to_thread(scan_input, path, body["endpoint"], simulator.config)
    effects = pinned_effects(simulator, "openai")
    batch = BatchRecord(
        id=f"batch_{uuid4().hex}",
        provider="openai",
        client=call.client,
        created_at=simulator.now(),
        stages=StoredStages(**vars(simulator.config.stages)),
        total=scan.total,
        endpoint=body["endpoint"],
        model=scan.model,
        input_tokens=scan.tokens,
        input_file_id=source.id,
        metadata=metadata,
        output_lifetime=lifetime,
        failure=_failure(simulator, scan, effects),
        effects=effects,
    )
    await asyncio.to_thread(_link, path, simulator.store.input_of(batch.id))
    return json_response(batch_object(View.of_new(simulator.store.add_batch(batch))))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Some file systems have no hard links.
        shutil.copyfile(source, target)


def _check_create(body: dict[str, Any]) -> tuple[float | None, dict[str, str] | None]:
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(body.get(name), str):
            raise ApiError(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if body["endpoint"] not in ENDPOINTS:
        message = f"Invalid value: '{body['endpoint']}'. Supported values are: {', '.join(map(repr, ENDPOINTS))}."
        raise ApiError(message, param="endpoint", code="invalid_value")
    if body["completion_window"] != "24h":
        message = f"Invalid value: '{body['completion_window']}'. Value must be '24h'."
        raise ApiError(message, param="completion_window", code="invalid_value")
    expires = body.get("output_expires_after")
    lifetime = None if expires is None else check_lifetime(expires, "output_expires_after")
    return lifetime, _check_metadata(body.get("metadata"))


def _check_metadata(metadata: Any) -> dict[str, str] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise ApiError("Invalid type for 'metadata': expected an object.", param="metadata", code="invalid_type")
    if len(metadata) > 16:
        message = "Invalid 'metadata': too many properties. Expected an object with at most 16 properties."
        raise ApiError(message, param="metadata", code="object_above_max_properties")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ApiError(
                f"Invalid type for 'metadata.{key}': expected a string.", param="metadata", code="invalid_type"
            )
        if len(key) > 64 or len(value) > 512:
            message = f"Invalid 'metadata.{key[:64]}': string too long. Keys hold 64 characters, values 512."
            raise ApiError(message, param="metadata", code="string_above_max_length")
    return metadata


def _failure(simulator: Simulator, scan: Scan, effects: tuple[PinnedEffect, ...]) -> tuple[BatchErrorRecord, ...]:
    scripted = next((e for e in effects if isinstance(e, BatchEffect) and e.how == "fail"), None)
    if scripted:
        return (BatchErrorRecord(code=scripted.code, message=scripted.message),)
    if scan.errors:
        return tuple(scan.errors)
    limit = simulator.config.limits.openai_enqueued_tokens
    if limit is None or _enqueued(simulator, scan.model) + scan.tokens <= limit:
        return ()
    message = (
        f"Enqueued token limit reached for {scan.model}. Limit: {limit:,} enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    return (BatchErrorRecord(code="token_limit_exceeded", message=message),)


def _enqueued(simulator: Simulator, model: str | None) -> int:
    now = simulator.now()
    open_ = (b for b in simulator.store.batches("openai") if b.model == model and not state(b, now).terminal)
    return sum(b.input_tokens for b in open_ if not b.failure)


def batch_object(view: View) -> dict[str, Any]:
    batch, now, plan = view.batch, view.state, view.state.timeline
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": _errors(batch, now),
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": _status(batch, now),
        **_file_ids(view),
        "created_at": int(batch.created_at),
        "expires_at": int(plan.expires_at),
        **_moments(now, plan, view.now),
        "request_counts": _counts(batch, now, view.tally),
        "usage": _usage(view.tally),
        "metadata": batch.metadata,
    }


def _status(batch: BatchRecord, now: State) -> str:
    scripted = batch.effect("status_word")
    if scripted and now.stage == "in_progress":
        return scripted.word
    return WORDS.get(now.stage, now.stage)


def _errors(batch: BatchRecord, now: State) -> dict[str, Any] | None:
    if now.stage != "failed":
        return None
    return {"object": "list", "data": [error.model_dump() for error in batch.failure]}


def _file_ids(view: View) -> dict[str, str | None]:
    late = view.batch.effect("late_files")
    named = view.state.terminal and (late is None or view.now >= view.state.timeline.closed_at + late.seconds)
    return {
        "output_file_id": view.batch.output_file_id if named else None,
        "error_file_id": view.batch.error_file_id if named else None,
    }


def _moments(now: State, plan: Timeline, at: float) -> dict[str, int | None]:
    """Each moment that has come; a moment of another outcome never does."""

    def past(moment: float | None, *, when: bool = True) -> int | None:
        return int(moment) if moment is not None and when and moment <= at else None

    stopped = plan.outcome != "failed"
    return {
        "in_progress_at": past(plan.validated_at, when=stopped and plan.validated_at <= plan.stopped_at),
        "finalizing_at": past(plan.stopped_at, when=plan.outcome in {"ended", "expired"}),
        "completed_at": past(plan.closed_at, when=now.stage == "ended"),
        "failed_at": past(plan.closed_at, when=now.stage == "failed"),
        "expired_at": past(plan.closed_at, when=now.stage == "expired"),
        "cancelling_at": past(plan.cancel_at, when=plan.outcome == "canceled"),
        "cancelled_at": past(plan.closed_at, when=now.stage == "canceled"),
    }


def _counts(batch: BatchRecord, now: State, tally: Tally) -> dict[str, int]:
    """Zeros until validation is over; what a canceled batch did not get to is neither completed nor failed."""
    total = 0 if now.stage in {"validating", "failed"} else batch.total
    return {"total": total, "completed": tally.succeeded, "failed": tally.errored}


def _usage(tally: Tally) -> dict[str, Any]:
    return {
        "input_tokens": tally.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tally.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tally.input_tokens + tally.output_tokens,
    }


def _find(call: Call) -> BatchRecord:
    batch_id = call.request.path_params["batch_id"]
    batch = call.simulator.store.batch(batch_id, "openai")
    if batch is None:
        raise ApiError(f"No batch found with id '{batch_id}'.", status=404)
    return batch


async def retrieve(call: Call) -> Response:
    return json_response(batch_object(await call.simulator.view(_find(call))))


async def cancel(call: Call) -> Response:
    batch = _find(call)
    now = state(batch, call.simulator.now())
    if now.terminal:
        raise ApiError(f"Cannot cancel a batch with status '{WORDS.get(now.stage, now.stage)}'.", status=409)
    if now.timeline.cancel_at is None or now.stage != "canceling":
        batch = call.simulator.store.change_batch(batch, cancel_at=call.simulator.now())
    return json_response(batch_object(await call.simulator.view(batch)))


async def list_batches(call: Call) -> Response:
    query = call.request.query_params
    limit = read_limit(query, default=20, most=100)
    now = call.simulator.now()
    visible = [b for b in call.simulator.store.batches("openai") if b.created_at + call.list_lag <= now]
    chosen, more = paged(visible, limit, after=query.get("after"))
    data = [batch_object(await call.simulator.view(batch)) for batch in chosen]
    first, last = (chosen[0].id, chosen[-1].id) if chosen else (None, None)
    return json_response({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more})
