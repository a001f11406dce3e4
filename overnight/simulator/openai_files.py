"""OpenAI's Files, as far as batches need them."""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.datastructures import UploadFile
from starlette.responses import Response

from overnight.simulator.calls import Call, send_file
from overnight.simulator.errors import ApiError, json_response
from overnight.simulator.paging import paged, read_limit
from overnight.simulator.records import FileRecord
from overnight.simulator.uploads import file_of, read_form

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
INPUT_LIFETIME = 30 * 86_400.0
"""Batch files expire after 30 days unless told otherwise."""


async def upload(call: Call) -> Response:
    most = call.simulator.config.limits.openai_file_bytes
    refusal = ApiError(f"The file exceeds the capacity limit of {most} bytes for this purpose.", status=413)
    content = call.simulator.store.scratch()
    async with read_form(call.request, most, refusal) as form:
        sent = file_of(form)
        record = _new_file(call, form, sent)
        await asyncio.to_thread(_copy, sent, content)
    call.simulator.store.add_file(record, content)
    return json_response(file_object(record))


def _copy(sent: UploadFile, target: Path) -> None:
    sent.file.seek(0)
    with target.open("wb") as sink:
        shutil.copyfileobj(sent.file, sink)


def _new_file(call: Call, form: dict[str, Any], sent: UploadFile) -> FileRecord:
    purpose, name = str(form.get("purpose") or ""), sent.filename or "upload"
    if not purpose:
        raise ApiError("Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter")
    if purpose not in PURPOSES:
        raise ApiError(f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose", code="invalid_value")
    if purpose == "batch" and not name.endswith(".jsonl"):
        raise ApiError("Invalid file format for Batch API. Must be .jsonl")
    now = call.simulator.now()
    lifetime = _lifetime(form) or (INPUT_LIFETIME if purpose == "batch" else None)
    return FileRecord(
        id=f"file-{uuid4().hex}",
        purpose=purpose,
        filename=name,
        size=sent.size or 0,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )


def _lifetime(form: dict[str, Any]) -> float | None:
    seconds = form.get("expires_after[seconds]")
    if seconds is None:
        return None
    return check_lifetime({"anchor": form.get("expires_after[anchor]"), "seconds": seconds}, "expires_after")


def check_lifetime(given: Any, param: str) -> float:
    """An hour to 30 days after creation, for files and for what a batch writes."""
    seconds = str(given.get("seconds", "")) if isinstance(given, dict) else ""
    if not seconds.isdigit() or given.get("anchor") != "created_at":
        raise ApiError(f"Invalid '{param}'.", param=param, code="invalid_value")
    if not 3600 <= int(seconds) <= 2_592_000:
        message = f"Invalid '{param}.seconds': expected a value between 3600 and 2592000."
        raise ApiError(message, param=f"{param}.seconds", code="invalid_value")
    return float(seconds)


def file_object(record: FileRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": int(record.created_at),
        "expires_at": None if record.expires_at is None else int(record.expires_at),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def find_file(call: Call, file_id: str) -> FileRecord:
    record = call.simulator.store.file(file_id)
    if record is None or _expired(call, record):
        raise ApiError(f"No such File object: {file_id}", status=404, param="id")
    return record


def _expired(call: Call, record: FileRecord) -> bool:
    return record.expires_at is not None and record.expires_at <= call.simulator.now()


async def retrieve(call: Call) -> Response:
    return json_response(file_object(find_file(call, call.request.path_params["file_id"])))


async def content(call: Call) -> Response:
    record = find_file(call, call.request.path_params["file_id"])
    return send_file(call, call.simulator.store.path_of(record.id), "application/octet-stream")


async def delete(call: Call) -> Response:
    record = find_file(call, call.request.path_params["file_id"])
    call.simulator.store.delete_file(record.id)
    return json_response({"id": record.id, "object": "file", "deleted": True})


async def list_files(call: Call) -> Response:
    query = call.request.query_params
    limit = read_limit(query, default=10_000, most=10_000)
    if query.get("order", "desc") not in {"asc", "desc"}:
        raise ApiError("Invalid 'order': expected 'asc' or 'desc'.", param="order", code="invalid_value")
    visible = [f for f in call.simulator.store.files() if not _expired(call, f)]
    visible = [f for f in visible if f.created_at + call.list_lag <= call.simulator.now()]
    if query.get("purpose"):
        visible = [f for f in visible if f.purpose == query["purpose"]]
    if query.get("order", "desc") == "desc":
        visible.reverse()
    chosen, more = paged(visible, limit, after=query.get("after"))
    return json_response(
        {
            "object": "list",
            "data": [file_object(f) for f in chosen],
            "first_id": chosen[0].id if chosen else "",
            "last_id": chosen[-1].id if chosen else "",
            "has_more": more,
        }
    )
