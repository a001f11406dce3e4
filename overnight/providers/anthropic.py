"""Anthropic: Message Batches. One call carries all entries, and nothing on the batch can say whose it is."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

import httpx

from overnight.batches import BatchStatus, Progress
from overnight.errors import MissingKeyError, PermanentProviderError
from overnight.log_events import LogEvent
from overnight.providers._anthropic_facts import (
    AFTER,
    BEFORE,
    BETWEEN,
    HEAD,
    TAIL,
    AnthropicFacts,
    framed,
    own_id,
    wire_id,
)
from overnight.providers._canceling import cancel_or_look
from overnight.providers._faults import Dialect, Fault
from overnight.providers._http import Api, Body, whole
from overnight.providers._jsonl import gathered
from overnight.providers._values import UnreadableLineError, as_object, as_text, clean, clean_code, count, read_line
from overnight.providers.base import (
    EntryLine,
    EntryLines,
    LineBlock,
    MalformedLineError,
    ProviderReport,
    ResultPosition,
    Submission,
    Undecided,
)
from overnight.settings import Settings

logger = logging.getLogger(__name__)

VERSION = "2023-06-01"
"""Later versions turn `temperature` and others into errors of the entry; this one takes every request."""

CLOCK_SKEW = timedelta(minutes=10)
"""By how much Anthropic's clock may be behind ours before `find` overlooks our own batch."""

BATCHES = "/v1/messages/batches"
BATCH = {"id": str, "processing_status": str, "request_counts": dict}
PAGE = 100

FINAL_CODES = frozenset({"enforced_spend_limit_reached"})
"""It comes with a 429 and without retry-after: a limit that somebody set."""

LINES_OF_PROOF = 50
GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})

COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


def read_fault(body: Any) -> Fault:
    """`{"type": "error", "error": {"type", "message", "details": {"error_code"}}}`."""
    error = as_object(as_object(body).get("error"))
    detail = clean_code(as_object(error.get("details")).get("error_code"))
    return Fault(code=detail or clean_code(error.get("type")), message=clean(error.get("message")))


class Anthropic(AnthropicFacts):
    """Anthropic's batch API."""

    def __init__(self, *, api_key: str, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        headers = {"x-api-key": api_key, "anthropic-version": VERSION}
        dialect = Dialect(provider=self.name, read_fault=read_fault, final_codes=FINAL_CODES)
        self._api = Api(dialect, base_url=base_url, headers=headers, transport=transport)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        key = settings.anthropic_api_key.get_secret_value().strip() if settings.anthropic_api_key else ""
        if not key:
            raise MissingKeyError(cls.name, "ANTHROPIC_API_KEY")
        return cls(api_key=key, base_url=settings.anthropic_base_url)

    async def aclose(self) -> None:
        await self._api.aclose()

    async def upload(self, submission: Submission, lines: EntryLines) -> str | None:  # noqa: ARG002 - create carries all
        return None

    async def uploads(self, batch_id: UUID, since: datetime) -> Sequence[str]:  # noqa: ARG002 - there are none
        return ()

    async def delete_upload(self, file_id: str) -> None:
        raise NotImplementedError(f"Anthropic knows no uploaded input, and so no {file_id}.")

    async def forget(self, provider_batch_id: str, uploads: Collection[str]) -> None:  # noqa: ARG002 - there are none
        await self._api.delete("delete batch", _path(provider_batch_id))

    async def probe(self) -> datetime | None:
        return await self._api.clock("list batches", BATCHES, params={"limit": 1})

    async def newest(self) -> str | None:
        page = await self._list({"limit": 1})
        return str(page["data"][0]["id"]) if page["data"] else None

    async def create(self, submission: Submission, lines: EntryLines) -> ProviderReport:
        body = _request_body(submission, lines)
        return _report(await self._api.create("create batch", BATCHES, body=body, needs=BATCH))

    async def find(self, submission: Submission, *, claimed: Collection[str] = ()) -> ProviderReport | Undecided | None:
        """Batches since the marker with our number of entries are candidates; only the ids in results prove one.

        A candidate that still runs can neither be taken nor dropped. To wait is slow, to take it could lose our own
        batch to somebody else's of the same size, and to drop it could pay twice: the caller decides.
        """
        if submission.started_at is None:
            return None
        undecided = False
        async for batch in self._since(submission.started_at - CLOCK_SKEW, submission.marker):
            # A batch that does not say how many entries it has could be ours.
            if batch["id"] in claimed or _total(batch) not in (0, submission.entry_count):
                continue
            ours = await self._is_ours(batch, submission.token)
            if ours:
                return _report(batch)
            undecided = undecided or ours is None
        return Undecided() if undecided else None

    async def _since(self, moment: datetime, marker: str | None) -> AsyncGenerator[dict[str, Any], None]:
        """Newest first. The marker alone would not do: whoever owns that batch may have deleted it."""
        params: dict[str, Any] = {"limit": PAGE}
        while True:
            page = await self._list(params)
            for batch in page["data"]:
                if batch["id"] == marker or _created_before(batch, moment):
                    return
                yield batch
            last = page["data"][-1]["id"] if page["data"] else None
            if not page.get("has_more") or last in (None, params.get("after_id")):
                return
            params["after_id"] = last

    async def _list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        page = await self._api.read("list batches", "GET", BATCHES, needs={"data": list}, params=params)
        return page | {"data": [item for item in page["data"] if isinstance(as_object(item).get("id"), str)]}

    async def _is_ours(self, batch: Mapping[str, Any], token: str) -> bool | None:
        """By the custom ids of its first result lines; None while there are none to be had."""
        if batch.get("processing_status") != "ended":
            return None
        try:
            verdicts = [_carries(line, token) async for line in self._first_lines(batch["id"])]
        except PermanentProviderError as error:
            if error.status not in GONE:
                raise
            return None
        # One line of ours proves it: a provider that mixes up lines may have put a stranger's in front.
        return True if True in verdicts else (False if False in verdicts else None)

    async def _first_lines(self, batch_id: str) -> AsyncGenerator[bytes, None]:
        position, left = ResultPosition(source="results"), LINES_OF_PROOF
        path = _path(batch_id) + "/results"
        # Half a line can prove it as well as a whole one.
        async with aclosing(self._api.lines("look for our batch", path, position, as_is=True)) as blocks:
            async for block in blocks:
                for line in block.lines[:left]:
                    yield line
                left -= len(block.lines)
                if left <= 0:
                    return

    async def fetch(self, provider_batch_id: str) -> ProviderReport:
        return _report(await self._api.read("fetch batch", "GET", _path(provider_batch_id), needs=BATCH))

    async def cancel(self, provider_batch_id: str) -> ProviderReport:
        return await cancel_or_look(
            self._cancel(provider_batch_id), lambda: self.fetch(provider_batch_id), being_canceled="canceling"
        )

    async def _cancel(self, provider_batch_id: str) -> ProviderReport:
        path = _path(provider_batch_id) + "/cancel"
        return _report(await self._api.read("cancel batch", "POST", path, needs=BATCH))

    async def answer(self, line: EntryLine, *, endpoint: str, token: str) -> bytes:
        message = await self._api.answer("answer", endpoint, body=whole(line.request), needs={"content": list})
        result = {"type": "succeeded", "message": message}
        return json.dumps({"custom_id": wire_id(line.custom_id, token), "result": result}).encode()

    async def results(
        self, report: ProviderReport, position: ResultPosition, *, as_is: bool = False
    ) -> AsyncGenerator[LineBlock, None]:
        """By the path that we know. `results_url` may point to another host, behind a gateway or out of malice, and
        our key must not go there.
        """
        start = ResultPosition(source="results", offset=position.offset)
        path = _path(report.provider_batch_id) + "/results"
        lines = self._api.lines("read results", path, start, as_is=as_is)
        async for block in gathered(lines):
            yield block


def _path(provider_batch_id: str) -> str:
    return f"{BATCHES}/{quote(provider_batch_id, safe='')}"


def _request_body(submission: Submission, lines: EntryLines) -> Body:
    """The JSON body, with its length known before the first entry is read from the database."""

    async def chunks() -> AsyncIterator[bytes]:
        yield HEAD
        comma = b""
        async for page in lines():
            if page:
                yield comma + framed(page, submission.token)
                comma = b","
        yield TAIL

    frame = len(BEFORE + wire_id("", submission.token) + BETWEEN + AFTER)
    commas = max(submission.entry_count - 1, 0)
    length = len(HEAD) + submission.request_bytes + frame * submission.entry_count + commas + len(TAIL)
    return Body(chunks=chunks(), length=length, content_type="application/json")


def _carries(line: bytes, token: str) -> bool | None:
    """Whether the line is of our submission; None for a line without an id."""
    try:
        value = read_line(line).get("custom_id")
    except UnreadableLineError as error:
        value = error.salvaged.get("custom_id")
    except MalformedLineError:
        return None
    if not isinstance(value, str):
        return None
    try:
        return bool(own_id(value, token))
    except MalformedLineError:
        return False


def _created_before(batch: Mapping[str, Any], moment: datetime) -> bool:
    """A batch that does not say when it was made could be ours."""
    try:
        created_at = datetime.fromisoformat(as_text(batch.get("created_at")))
    except ValueError:
        return False
    return (created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC)) < moment


def _counts(batch: Mapping[str, Any]) -> dict[str, int]:
    counts = as_object(batch.get("request_counts"))
    return {name: count(counts.get(name)) for name in COUNTS}


def _total(batch: Mapping[str, Any]) -> int:
    return sum(_counts(batch).values())


def status_of(batch: Mapping[str, Any]) -> BatchStatus:
    """Anthropic knows one end for all; what led to it is in the counts and in `cancel_initiated_at`."""
    word, counts = as_text(batch.get("processing_status")).lower(), _counts(batch)
    if word != "ended":
        if word not in ("in_progress", "canceling"):
            logger.warning(
                "Unknown status %r of an Anthropic batch; it counts as in progress.",
                word[:100],
                extra={"event": LogEvent.STATUS_UNKNOWN},
            )
        return BatchStatus.IN_PROGRESS
    if batch.get("cancel_initiated_at") and counts["canceled"]:
        return BatchStatus.CANCELED
    # Without entries of other outcomes nothing was answered in time; with them it is an end like any other.
    return BatchStatus.EXPIRED if counts["expired"] == sum(counts.values()) > 0 else BatchStatus.ENDED


def _report(batch: Mapping[str, Any]) -> ProviderReport:
    counts = _counts(batch)
    total = sum(counts.values())
    done = total - counts["processing"]
    return ProviderReport(
        provider_batch_id=batch["id"],
        status=status_of(batch),
        status_word=batch["processing_status"].lower(),
        # Everything counts as processing until the whole batch has ended: `done` jumps from nothing to all.
        progress=Progress(
            total=total,
            done=done,
            failed=counts["errored"] + counts["canceled"] + counts["expired"],
        ),
        details={"request_counts": counts},
        line_count=done,  # what was canceled or expired has a line, too
    )
