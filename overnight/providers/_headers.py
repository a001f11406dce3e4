"""What the headers of an answer say: how long to wait, and which part of a file it is."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

MAX_RETRY_AFTER = timedelta(days=1)
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """How long the provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
    milliseconds, plain = headers.get("retry-after-ms"), headers.get("retry-after")
    readings = (_number(milliseconds, 0.001), _number(plain, 1), _seconds_until(plain, now or datetime.now(UTC)))
    seconds = next((reading for reading in readings if reading is not None), None)
    return None if seconds is None else min(timedelta(seconds=max(seconds, 0.0)), MAX_RETRY_AFTER)


def _number(text: str | None, unit: float) -> float | None:
    try:
        seconds = float(text or "") * unit
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER.total_seconds()) if math.isfinite(seconds) else None


def _seconds_until(text: str | None, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


def is_rest(response: httpx.Response, start: int) -> bool:
    """Whether this is the file from there to its very end: a part that ends before would pass for the whole rest."""
    if (
        response.status_code != HTTPStatus.PARTIAL_CONTENT
        or response.headers.get("content-encoding", "identity") != "identity"
    ):
        return False
    part = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return part is not None and int(part[1]) == start and int(part[2]) == int(part[3]) - 1


def instant(header: str) -> datetime | None:
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except ValueError:
        return None
