"""HTTP calls to providers: each is one call, and one answer or one error of `overnight.providers._faults`.

Nothing in here tries twice, follows a redirect (it would carry the key elsewhere), or writes a key, a prompt or a whole
body into a text.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx

from overnight.errors import (
    AmbiguousProviderError,
    ConfigurationError,
    IncompleteResultsError,
    PermanentProviderError,
    ProviderError,
    TransientProviderError,
)
from overnight.providers._faults import Dialect, Repeat, error_class, silence_class
from overnight.providers._headers import instant, is_rest, retry_after
from overnight.providers._jsonl import BOM, LineSplitter, can_be_whole
from overnight.providers._transport import in_large_pieces
from overnight.providers.base import LineBlock, ResultPosition
from overnight.spans import provider_call

CONNECT_TIMEOUT = 15.0
"""A TLS handshake across the world takes one second; a full accept queue lets a second SYN through after three."""
READ_TIMEOUT = 60.0
"""Silence between two packets. Status calls answer in under a second, downloads never pause this long."""
WRITE_TIMEOUT = 60.0
"""One chunk into a socket; a provider that stops reading for a minute has hung."""
CREATE_READ_TIMEOUT = 300.0
"""A create or upload of 256 MB is checked before it is answered, and giving up early is what makes it ambiguous."""
ANSWER_READ_TIMEOUT = 600.0
"""A model may think for minutes before the first byte; both vendors' own clients wait this long."""
POOL_TIMEOUT = 60.0
"""Waiting for one of our own connections, while downloads hold them."""

TIMEOUTS = httpx.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, write=WRITE_TIMEOUT, pool=POOL_TIMEOUT)
SEND_TIMEOUTS = httpx.Timeout(connect=CONNECT_TIMEOUT, read=CREATE_READ_TIMEOUT, write=WRITE_TIMEOUT, pool=POOL_TIMEOUT)
ANSWER_TIMEOUTS = httpx.Timeout(
    connect=CONNECT_TIMEOUT, read=ANSWER_READ_TIMEOUT, write=WRITE_TIMEOUT, pool=POOL_TIMEOUT
)

MAX_MESSAGE = 500
MAX_BODY_QUOTE = 120
MAX_ERROR_BODY = 64 * 1024

NOT_THE_REST = frozenset({HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
"""Answers to a request for the rest of a file that are of no use where they are not that: the whole is asked for."""

WIRE_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError)

KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "cf-ray")


@dataclass(frozen=True, kw_only=True)
class Body:
    """A request body that is streamed, with its length known beforehand.

    Chunked encoding would do without the length, but then a body that our side cut short could pass for a whole one.
    """

    chunks: AsyncIterator[bytes]
    length: int
    content_type: str


@dataclass(frozen=True, kw_only=True)
class _Call:
    operation: str
    method: str
    path: str
    repeat: Repeat = Repeat.HARMLESS
    params: Mapping[str, Any] | None = None
    body: Body | None = None


def whole(text: str, *, before: AsyncIterator[object] | None = None) -> Body:
    """A JSON body that is in memory anyway. `before` is run through when the connection is there and the body is
    about to leave; an error that it raises keeps the body from leaving.
    """
    raw = text.encode()

    async def once() -> AsyncIterator[bytes]:
        if before is not None:
            async for _ in before:
                pass
        yield raw

    return Body(chunks=once(), length=len(raw), content_type="application/json")


def json_body(value: Mapping[str, Any], *, before: AsyncIterator[object] | None = None) -> Body:
    """A value as a body; see `whole`."""
    return whole(json.dumps(value, separators=(",", ":")), before=before)


class Api:
    """One provider's HTTP API; each method is one call and one answer or error."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        base_url: str,
        headers: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._dialect = dialect
        self._base_url = base_url
        self._secrets = [value for name, value in headers.items() if name.lower() in ("authorization", "x-api-key")]
        self._client = httpx.AsyncClient(
            headers={"user-agent": "overnight"} | _checked(headers),
            follow_redirects=False,
            timeout=TIMEOUTS,
            transport=transport or in_large_pieces(),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def read(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        needs: Mapping[str, type],
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A call that may be repeated. `needs` are the keys without which the answer is none, with their types."""
        return await self._answer(_Call(operation=operation, method=method, path=path, params=params), needs)

    async def clock(self, operation: str, path: str, *, params: Mapping[str, Any]) -> datetime | None:
        """A read for the sake of its being answered: what time it is at the provider, where the answer says so."""
        call = _Call(operation=operation, method="GET", path=path, params=params)
        response, _ = await self._exchange(call, {"data": list})
        return instant(response.headers.get("date", ""))

    async def delete(self, operation: str, path: str) -> None:
        """Delete something; what is gone already is no error."""
        try:
            await self.read(operation, "DELETE", path, needs={})
        except ProviderError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise

    async def upload(self, operation: str, path: str, *, body: Body, needs: Mapping[str, type]) -> dict[str, Any]:
        """Send a file. Repeating it is harmless."""
        return await self._answer(_Call(operation=operation, method="POST", path=path, body=body), needs)

    async def create(self, operation: str, path: str, *, body: Body, needs: Mapping[str, type]) -> dict[str, Any]:
        """A call that costs money if it is accepted. An error that `body.chunks` raises passes through as it is; the
        request was not whole then, so it cannot have been accepted.

        Raises:
            AmbiguousProviderError: it may have been accepted.
        """
        call = _Call(operation=operation, method="POST", path=path, body=body, repeat=Repeat.PAID_BATCH)
        return await self._answer(call, needs)

    async def answer(self, operation: str, path: str, *, body: Body, needs: Mapping[str, type]) -> dict[str, Any]:
        """Have one request answered at once; it is paid for when an answer comes.

        Raises:
            AmbiguousProviderError: it was sent and no answer came.
        """
        call = _Call(operation=operation, method="POST", path=path, body=body, repeat=Repeat.PAID_ANSWER)
        return await self._answer(call, needs)

    async def lines(
        self, operation: str, path: str, position: ResultPosition, *, as_is: bool = False
    ) -> AsyncGenerator[LineBlock, None]:
        """Stream the lines of a result file behind a position.

        Only the rest of the file is asked for. A server that sends all of it instead is read from the beginning, and
        the bytes that are skipped cost little beside those that were stored already.

        Raises:
            IncompleteResultsError: unless taken `as_is`: the file ends within a line, which is not given then, for a
                position behind half a line would make two bad lines of one good one; or it ends before the position.
        """
        async with self._download(operation, path, position.offset) as (start, chunks):
            splitter, is_first = LineSplitter(position, start=start), True
            async for chunk in chunks:
                if is_first:
                    self._check_content(operation, chunk)
                    is_first = False
                if block := splitter.feed(chunk):
                    yield block
        if splitter.missing and not as_is:
            raise IncompleteResultsError(
                self._dialect.provider, f"the file is {splitter.missing} bytes shorter than what was read before"
            )
        if block := splitter.finish():
            if not as_is and not can_be_whole(block.lines[-1]):
                raise IncompleteResultsError(self._dialect.provider, "the file ends within a line")
            yield block

    @asynccontextmanager
    async def _download(
        self, operation: str, path: str, offset: int
    ) -> AsyncGenerator[tuple[int, AsyncIterator[bytes]], None]:
        """The bytes of a file behind an offset, and where they begin: at the byte before it, or else at 0."""
        try:
            async with AsyncExitStack() as stack:
                # From the byte before, the line end that is known to be there: there is always something to send.
                start = max(offset - 1, 0)
                response = await stack.enter_async_context(self._stream(path, start))
                if start and not is_rest(response, start):
                    start = 0
                    if response.status_code in NOT_THE_REST:
                        response = await stack.enter_async_context(self._stream(path, start))
                # Around the beginning alone: a span that is open while a generator rests is others' parent meanwhile.
                with provider_call(self._dialect.provider, operation, "GET", path) as answered:
                    answered(response.status_code)
                    await self._check_download(operation, response)
                yield start, response.aiter_bytes()
                self._check_whole(operation, response)
        except WIRE_ERRORS as error:
            raise self._no_answer(operation, error, Repeat.HARMLESS) from None

    def _stream(self, path: str, start: int) -> AbstractAsyncContextManager[httpx.Response]:
        # Uncompressed, because a compressed stream that is cut does not always say so, and offsets are the file's own.
        headers = {"accept": "*/*", "accept-encoding": "identity"}
        if start:
            headers["range"] = f"bytes={start}-"
        return self._client.stream("GET", self._base_url + path, headers=headers)

    async def _check_download(self, operation: str, response: httpx.Response) -> None:
        if not response.is_success:
            await response.aread()
            raise self._refusal(operation, response, Repeat.HARMLESS)
        if response.headers.get("content-type", "").startswith("text/html"):
            raise self._error(TransientProviderError, operation, "HTML instead of result lines", response=response)

    def _check_content(self, operation: str, beginning: bytes) -> None:
        """A proxy's page or an error that comes as a 200 must not pass for a result file without any result."""
        text = beginning.removeprefix(BOM).lstrip()
        if text.startswith(b"<"):
            raise self._error(TransientProviderError, operation, "HTML instead of result lines")
        if len(text) > MAX_ERROR_BODY or b'"custom_id"' in text:
            return
        try:
            fault = self._dialect.read_fault(json.loads(text))
        except (ValueError, RecursionError):
            return
        if fault.message:
            raise self._error(TransientProviderError, operation, "an error instead of result lines", code=fault.code)

    def _check_whole(self, operation: str, response: httpx.Response) -> None:
        """HTTP/1.1 says when a body is cut; this says it for whatever else carries it. (Where a transport answers with
        a body that it held in memory, nothing was downloaded and nothing can be cut.)
        """
        announced, came = response.headers.get("content-length", ""), response.num_bytes_downloaded
        if announced.isdigit() and 0 < came < int(announced):
            text = f"the body ended after {came} of {announced} bytes"
            raise self._error(TransientProviderError, operation, text, response=response)

    async def _answer(self, call: _Call, needs: Mapping[str, type]) -> dict[str, Any]:
        _, value = await self._exchange(call, needs)
        return value

    async def _exchange(self, call: _Call, needs: Mapping[str, type]) -> tuple[httpx.Response, dict[str, Any]]:
        with provider_call(self._dialect.provider, call.operation, call.method, call.path) as answered:
            try:
                response = await self._client.send(self._request(call))
            except WIRE_ERRORS as error:
                raise self._no_answer(call.operation, error, call.repeat) from None
            answered(response.status_code)
            if not response.is_success:
                raise self._refusal(call.operation, response, call.repeat)
            return response, self._understood(call, response, needs)

    def _request(self, call: _Call) -> httpx.Request:
        url, body = self._base_url + call.path, call.body
        if body is None:
            return self._client.build_request(call.method, url, params=call.params)
        headers = {"content-type": body.content_type, "content-length": str(body.length)}
        content = self._exactly(call.operation, body)
        timeouts = ANSWER_TIMEOUTS if call.repeat is Repeat.PAID_ANSWER else SEND_TIMEOUTS
        return self._client.build_request(call.method, url, content=content, headers=headers, timeout=timeouts)

    async def _exactly(self, operation: str, body: Body) -> AsyncIterator[bytes]:
        """The body, one chunk late: the last one leaves only when the length is right, so a body that is too long or
        too short never arrives whole and never becomes a batch.
        """
        total, held = 0, b""
        async for chunk in body.chunks:
            total += len(chunk)
            if total > body.length:
                break
            if held:
                yield held
            held = chunk
        if total != body.length:
            text = (
                f"the entries hold {'more' if total > body.length else 'fewer'} bytes than the {body.length} that were "
                f"counted when they were added; nothing was accepted. The rows were changed behind the library's back"
            )
            raise self._error(PermanentProviderError, operation, text)
        yield held

    def _understood(self, call: _Call, response: httpx.Response, needs: Mapping[str, type]) -> dict[str, Any]:
        value = _json(response)
        if isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in needs.items()):
            return value
        kind = TransientProviderError if call.repeat is Repeat.HARMLESS else AmbiguousProviderError
        what = response.headers.get("content-type", "no content type")
        raise self._error(kind, call.operation, f"the answer ({what}) is not what the API returns", response=response)

    def _refusal(self, operation: str, response: httpx.Response, repeat: Repeat) -> ProviderError:
        value = _json(response)
        fault = self._dialect.read_fault(value)
        kind = error_class(response.status_code, repeat)
        if response.status_code == 429 and fault.code in self._dialect.final_codes:
            kind = PermanentProviderError
        message = fault.message or (_quote(response) if value is None else "no message")
        if response.is_redirect:
            message = "a redirect, which is not followed because it would carry the key along; check the base URL"
        return self._error(kind, operation, message, response=response, code=fault.code)

    def _no_answer(self, operation: str, error: Exception, repeat: Repeat) -> ProviderError:
        kind = silence_class(error, repeat)
        return self._error(kind, operation, f"{type(error).__name__} {error}"[:MAX_MESSAGE].strip())

    def _error(
        self,
        kind: type[ProviderError],
        operation: str,
        message: str,
        *,
        response: httpx.Response | None = None,
        code: str | None = None,
    ) -> ProviderError:
        headers: Mapping[str, str] = response.headers if response is not None else {}
        request_id = next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None)
        text = self._without_secrets(message)[:MAX_MESSAGE] + (f" [request {request_id[:100]}]" if request_id else "")
        return kind(
            self._dialect.provider,
            operation,
            text,
            status=response.status_code if response is not None else None,
            code=code,
            retry_after=retry_after(headers),
        )

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret.removeprefix("Bearer "), "[key]")
        return KEY_LIKE.sub("[key]", text)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """A key with a line end or a quotation mark from a word processor would fail deep in the client, quoted in full."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"The value for the header {name!r} has characters that no header can hold.")
    return dict(headers)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _quote(response: httpx.Response) -> str:
    text = " ".join(response.text.split())
    return f"no JSON but {text[:MAX_BODY_QUOTE]!r}" if text else "an empty body"
