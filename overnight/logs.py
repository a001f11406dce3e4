"""A process's own log: lines for people, or JSON for machines, and on each line whose it is.

What a line concerns is put on it here, not by whoever logs: temporalio and other libraries log from within activities
too, and know nothing of batches. With OVERNIGHT_LOG_FORMAT=json a line is an object with `at`, `level`, `logger`,
`event` and `message`, and, where they are known, `batch_id` or `campaign_id`, `workflow_id`, `activity`, `attempt` and
`error`. `event` is the line's name (`overnight.log_events`), or its logger's where a library logs.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from temporalio import activity, workflow

from overnight.errors import ConfigurationError

FORMAT = "OVERNIGHT_LOG_FORMAT"

_IDS = ("batch_id", "campaign_id")
_concerned: ContextVar[Mapping[str, str]] = ContextVar("concerned", default=MappingProxyType({}))


@contextmanager
def concerning(batch_id: UUID | None = None, *, campaign_id: UUID | None = None) -> Iterator[None]:
    """What is logged in the block, and in tasks that it starts, concerns this batch or campaign."""
    ids = zip(_IDS, (batch_id, campaign_id), strict=True)
    token = _concerned.set({name: str(value) for name, value in ids if value is not None})
    try:
        yield
    finally:
        _concerned.reset(token)


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
            return TextFormatter("%(asctime)s %(levelname)s %(event)s: %(message)s")
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
    return {**(_of_line(record) or _of_workflow(found.get("workflow_id"))), **found}


def _of_line(record: logging.LogRecord) -> Mapping[str, str]:
    """What the line itself names goes before what it is logged for."""
    named = {name: str(getattr(record, name)) for name in _IDS if getattr(record, name, None) is not None}
    return named or _concerned.get()


def _of_workflow(workflow_id: str | None) -> Mapping[str, str]:
    """The id in the name that our own client gives to a workflow; another's name says nothing."""
    prefix, _, rest = (workflow_id or "").partition("-")
    try:
        return {f"{prefix}_id": str(UUID(rest))} if f"{prefix}_id" in _IDS else {}
    except ValueError:
        return {}


def _event(record: logging.LogRecord) -> str:
    return getattr(record, "event", None) or record.name


class TextFormatter(logging.Formatter):
    """Lines for people. A batch is named once: most messages of ours begin with it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's own name
        record.__dict__["event"] = _event(record)
        about, line = _about(record), super().formatMessage(record)
        told = [f"{name.removesuffix('_id')} {about[name]}" for name in _IDS if name in about]
        return " ".join([line, *(f"[{each}]" for each in told if each not in line)])


class JsonFormatter(logging.Formatter):
    """One object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": _event(record),
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "trace": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False, default=str)
