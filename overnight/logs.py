"""A process's own log: lines for people, or JSON for machines, and on each line whose it is.

What a line concerns is put on it here, not by whoever logs: temporalio and other libraries log from within activities
too, and know nothing of batches. With OVERNIGHT_LOG_FORMAT=json a line is an object with `at`, `level`, `logger`,
`event` and `message`, and, where they are known, `batch_id`, `workflow_id`, `activity`, `attempt` and `error`.
`event` is one name for all lines from one place in the code, whatever values they carry.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from temporalio import activity, workflow

from overnight.errors import ConfigurationError

FORMAT = "OVERNIGHT_LOG_FORMAT"

_batch: ContextVar[UUID | None] = ContextVar("batch", default=None)


@contextmanager
def concerning(batch_id: UUID | None) -> Iterator[None]:
    """What is logged in the block, and in tasks that it starts, concerns this batch."""
    token = _batch.set(batch_id)
    try:
        yield
    finally:
        _batch.reset(token)


def log_to_stderr(level: str) -> None:
    """Set up a process's own logging; libraries that log every request are kept down.

    Raises:
        ConfigurationError: OVERNIGHT_LOG_FORMAT is neither text nor json.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(os.environ.get(FORMAT) or "text"))
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _formatter(name: str) -> logging.Formatter:
    match name:
        case "text":
            return TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        case "json":
            return JsonFormatter()
        case _:
            raise ConfigurationError(f"{FORMAT} is {name!r}; there are text and json.")


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """Whose line it is, from where it is logged."""
    found: dict[str, Any] = {}
    if activity.in_activity():
        info = activity.info()
        found = {"workflow_id": info.workflow_id, "activity": info.activity_type, "attempt": info.attempt}
    elif workflow.in_workflow():
        found = {"workflow_id": workflow.info().workflow_id}
    else:
        # temporalio puts them on its own lines, also on those that it logs when the activity is over.
        told = getattr(record, "temporal_activity", None) or getattr(record, "temporal_workflow", None) or {}
        found = {name: told[name] for name in ("workflow_id", "attempt") if name in told}
    batch_id = _batch.get() or _batch_of(found.get("workflow_id"))
    return {"batch_id": str(batch_id), **found} if batch_id else found


def _batch_of(workflow_id: str | None) -> str | None:
    """The id in the name that our own client gives to a workflow; another's name says nothing."""
    prefix, _, rest = (workflow_id or "").partition("-")
    try:
        return str(UUID(rest)) if prefix == "batch" else None
    except ValueError:
        return None


class TextFormatter(logging.Formatter):
    """Lines for people. A batch is named once: most messages of ours begin with it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's own name
        batch_id = _about(record).get("batch_id")
        line = super().formatMessage(record)
        return line if batch_id is None or batch_id in line else f"{line} [batch {batch_id}]"


class JsonFormatter(logging.Formatter):
    """One object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": getattr(record, "event", None) or f"{record.name}.{record.funcName}",
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "trace": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False, default=str)
