"""OpenAI: Files and Batches. The input is a file, the batch carries our tag in its metadata."""

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

import httpx

from overnight.batches import BatchStatus, Progress
from overnight.errors import IncompleteResultsError, MissingKeyError
from overnight.providers._canceling import cancel_or_look
from overnight.providers._faults import Dialect, Fault
from overnight.providers._http import Api, Body, json_body, whole
from overnight.providers._jsonl import gathered
from overnight.providers._openai_facts import CHAT, EMBEDDINGS, RESPONSES, OpenAIFacts, frame, framed, status_of
from overnight.providers._values import as_list, as_object, as_text, clean, clean_code, count
from overnight.providers.base import EntryLine, EntryLines, LineBlock, ProviderReport, ResultPosition, Submission
from overnight.settings import Settings

CLOCK_SKEW = timedelta(minutes=10)
"""By how much OpenAI's clock may be behind ours before `find` overlooks our own batch."""

PAGE = 100
FILES_PAGE = 1_000
BATCH = {"id": str, "status": str}
RESULT_FILES = ("output_file_id", "error_file_id")

ANSWERS: Mapping[str, Mapping[str, type]] = {
    RESPONSES: {"output": list},
    CHAT: {"choices": list},
    EMBEDDINGS: {"data": list},
}
"""Without which an answer is none."""

FINAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""They come with a 429 and mean an account without money."""


def read_fault(body: Any) -> Fault:
    """`{"error": {"message", "type", "param", "code"}}`; compatible servers leave some of it out."""
    error = as_object(body).get("error")
    fields = as_object(error)
    code = clean_code(fields.get("code")) or clean_code(fields.get("type"))
    return Fault(code=code, message=clean(fields.get("message")) or clean(error))


class OpenAI(OpenAIFacts):
    """OpenAI's batch API, and that of servers which speak it."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        organization: str | None = None,
        project: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {api_key}"}
        if organization:
            headers["openai-organization"] = organization
        if project:
            headers["openai-project"] = project
        dialect = Dialect(provider=self.name, read_fault=read_fault, final_codes=FINAL_CODES)
        self._api = Api(dialect, base_url=base_url, headers=headers, transport=transport)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        key = settings.openai_api_key.get_secret_value().strip() if settings.openai_api_key else ""
        if not key:
            raise MissingKeyError(cls.name, "OPENAI_API_KEY")
        return cls(
            api_key=key,
            base_url=settings.openai_base_url,
            organization=settings.openai_organization,
            project=settings.openai_project,
        )

    async def aclose(self) -> None:
        await self._api.aclose()

    async def upload(self, submission: Submission, lines: EntryLines) -> str | None:
        answer = await self._api.upload("upload", "/files", body=_input_file(submission, lines), needs={"id": str})
        return str(answer["id"])

    async def uploads(self, batch_id: UUID, since: datetime) -> Sequence[str]:
        """By the names that `upload` gives them."""
        prefix = f"overnight-{batch_id}-"
        params = {"purpose": "batch", "order": "desc", "limit": FILES_PAGE}
        files = self._newest_first("list files", "/files", params, until=since - CLOCK_SKEW)
        return [file["id"] async for file in files if as_text(file.get("filename")).startswith(prefix)]

    async def delete_upload(self, file_id: str) -> None:
        await self._api.delete("delete file", f"/files/{quote(file_id, safe='')}")

    async def forget(self, provider_batch_id: str, uploads: Collection[str]) -> None:
        """The files alone: OpenAI has no call that deletes a batch."""
        details = (await self.fetch(provider_batch_id)).details
        results = [details[key] for key in RESULT_FILES if key in details]
        for file_id in (*uploads, *results):
            await self.delete_upload(file_id)

    async def probe(self) -> datetime | None:
        return await self._api.clock("list batches", "/batches", params={"limit": 1})

    async def newest(self) -> str | None:
        return None

    async def create(self, submission: Submission, lines: EntryLines) -> ProviderReport:
        wish = {
            "input_file_id": submission.file_id,
            "endpoint": submission.endpoint,
            "completion_window": "24h",
            "metadata": {"overnight_batch": str(submission.batch_id), "overnight_submission": submission.token},
        }
        body = json_body(wish, before=lines())
        return _report(await self._api.create("create batch", "/batches", body=body, needs=BATCH))

    async def find(self, submission: Submission, *, claimed: Collection[str] = ()) -> ProviderReport | None:
        """Our batch by its tag. There is no idempotency key and no filter, only a list with the newest first."""
        if submission.started_at is None:
            return None
        since = submission.started_at - CLOCK_SKEW
        async for batch in self._newest_first("list batches", "/batches", {"limit": PAGE}, until=since):
            if batch["id"] not in claimed and _is_ours(batch, submission):
                return _report(batch)
        return None

    async def _newest_first(
        self, operation: str, path: str, params: Mapping[str, Any], *, until: datetime
    ) -> AsyncGenerator[dict[str, Any], None]:
        after: str | None = None
        while True:
            page = await self._api.read(
                operation, "GET", path, needs={"data": list}, params={**params, **({"after": after} if after else {})}
            )
            items = [item for item in page["data"] if isinstance(as_object(item).get("id"), str)]
            for item in items:
                if _created_before(item, until):
                    return
                yield item
            if not page.get("has_more") or not items or items[-1]["id"] == after:
                return
            after = items[-1]["id"]

    async def fetch(self, provider_batch_id: str) -> ProviderReport:
        return _report(await self._api.read("fetch batch", "GET", _path(provider_batch_id), needs=BATCH))

    async def cancel(self, provider_batch_id: str) -> ProviderReport:
        return await cancel_or_look(
            self._cancel(provider_batch_id), lambda: self.fetch(provider_batch_id), being_canceled="cancelling"
        )

    async def _cancel(self, provider_batch_id: str) -> ProviderReport:
        path = _path(provider_batch_id) + "/cancel"
        return _report(await self._api.read("cancel batch", "POST", path, needs=BATCH))

    async def answer(self, line: EntryLine, *, endpoint: str, token: str) -> bytes:  # noqa: ARG002 - see `parse_line`
        path = endpoint.removeprefix("/v1")  # which the base URL has already
        body = await self._api.answer("answer", path, body=whole(line.request), needs=ANSWERS[endpoint])
        response = {"status_code": HTTPStatus.OK, "body": body}
        return json.dumps({"custom_id": line.custom_id, "response": response, "error": None}).encode()

    async def results(
        self, report: ProviderReport, position: ResultPosition, *, as_is: bool = False
    ) -> AsyncGenerator[LineBlock, None]:
        files = _result_files(report, as_is=as_is)
        reached = list(files).index(position.source) if position.source in files else 0
        for source in list(files)[reached:]:
            start = position if source == position.source else ResultPosition(source=source)
            path = f"/files/{quote(files[source], safe='')}/content"
            async for block in gathered(self._api.lines(f"read {source} file", path, start, as_is=as_is)):
                yield block


def _path(provider_batch_id: str) -> str:
    return f"/batches/{quote(provider_batch_id, safe='')}"


def _input_file(submission: Submission, lines: EntryLines) -> Body:
    """The multipart body, with its length known before its first byte is read from the database."""
    boundary = f"overnight-{secrets.token_hex(16)}"
    name = f"overnight-{submission.batch_id}-{submission.token}.jsonl"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        async for page in lines():
            yield framed(page, submission.endpoint)
        yield tail

    framing = len("".join(frame(submission.endpoint))) * submission.entry_count
    length = len(head) + submission.request_bytes + framing + len(tail)
    return Body(chunks=chunks(), length=length, content_type=f"multipart/form-data; boundary={boundary}")


def _created_before(batch: Mapping[str, Any], moment: datetime) -> bool:
    """A batch that does not say when it was made could be ours."""
    created_at = batch.get("created_at")
    return isinstance(created_at, int | float) and created_at < moment.timestamp()


def _is_ours(batch: Mapping[str, Any], submission: Submission) -> bool:
    """By our tag; by the input file where a server keeps no metadata: each submission uploads its own."""
    tag = as_object(batch.get("metadata")).get("overnight_submission")
    if tag is not None:
        return bool(tag == submission.token)
    return submission.file_id is not None and batch.get("input_file_id") == submission.file_id


def _report(batch: Mapping[str, Any]) -> ProviderReport:
    counts = as_object(batch.get("request_counts"))
    completed, failed = count(counts.get("completed")), count(counts.get("failed"))
    code, reason = _failure(as_list(as_object(batch.get("errors")).get("data")))
    status = status_of(batch["status"])
    return ProviderReport(
        provider_batch_id=batch["id"],
        status=status,
        status_word=batch["status"].lower(),
        # Their `completed` leaves the failed out; our `done` is all that is no longer open.
        progress=Progress(total=count(counts.get("total")), done=completed + failed, failed=failed),
        details={key: batch[key] for key in RESULT_FILES if as_text(batch.get(key))},
        # What failed has a line of its own (some servers put it into the output file, where it does not hurt). But of
        # a batch that did not complete, some count as failed what never ran, and give no line for that.
        line_count=completed + failed if status is BatchStatus.ENDED else completed,
        lines_before={"error": completed},
        failure_code=code,
        failure_reason=reason,
    )


def _failure(errors: list[Any]) -> tuple[str | None, str | None]:
    """OpenAI accepts a batch first and checks its lines later; what it found is a list with line numbers."""
    faults = [as_object(error) for error in errors]
    if not faults:
        return None, None
    texts = [
        f"{_line_number(fault)}{clean(fault.get('message')) or clean(fault.get('code')) or ''}" for fault in faults[:3]
    ]
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return clean_code(faults[0].get("code")), clean("; ".join(texts) + more)


def _line_number(fault: Mapping[str, Any]) -> str:
    return f"line {number}: " if (number := count(fault.get("line"))) else ""


def _result_files(report: ProviderReport, *, as_is: bool) -> dict[str, str]:
    """The files that exist, in the order in which they are read.

    A batch that is over can be without its file ids for a moment, and its counts tell: completed entries are in the
    output file, failed ones in the error file (some compatible servers put them into the output file). So long as a
    file is awaited, the batch has to be fetched again. One that completed has a file, even where its counts do not say
    so yet; one that failed its checks, or was canceled or expired with all counts at zero, has none and never will.
    """
    named = {source: as_text(report.details.get(f"{source}_file_id")) for source in ("output", "error")}
    files = {source: file for source, file in named.items() if file}
    completed = report.progress.done - report.progress.failed
    answered = report.progress.done > 0 or report.status is BatchStatus.ENDED
    missing = (completed > 0 and "output" not in files) or (answered and not files)
    if missing and report.status is not BatchStatus.FAILED and not as_is:
        counts = f"{completed} completed and {report.progress.failed} failed entries"
        raise IncompleteResultsError(
            OpenAIFacts.name, f"{counts}, and the files' ids are not there yet; fetch the batch again"
        )
    return files
