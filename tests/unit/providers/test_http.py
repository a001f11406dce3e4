from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from overnight.errors import (
    AmbiguousProviderError,
    ConfigurationError,
    IncompleteResultsError,
    PermanentProviderError,
    ProviderError,
    TransientProviderError,
)
from overnight.providers._faults import Dialect, Fault
from overnight.providers._headers import retry_after
from overnight.providers._http import Api, Body, json_body
from overnight.providers.base import ResultPosition

KEY = "very-secret-0123456789"
A, P, T = AmbiguousProviderError, PermanentProviderError, TransientProviderError


def read_fault(body: Any) -> Fault:
    error = body.get("error", {}) if isinstance(body, dict) else {}
    return Fault(code=error.get("code"), message=error.get("message"))


def api(answer: Any) -> Api:
    async def handle(request: httpx.Request) -> httpx.Response:
        await request.aread()
        if isinstance(answer, Exception):
            raise answer
        return answer

    dialect = Dialect(provider="fake", read_fault=read_fault, final_codes=frozenset({"no_money"}))
    return Api(
        dialect,
        base_url="http://fake",
        headers={"authorization": f"Bearer {KEY}"},
        transport=httpx.MockTransport(handle),
    )


async def read(answer: Any) -> dict[str, Any]:
    return await api(answer).read("look", "GET", "/x", needs={"id": str})


async def create(answer: Any) -> dict[str, Any]:
    return await api(answer).create("create", "/x", body=json_body({"a": 1}), needs={"id": str})


STATUS_TABLE = [
    # status, of a read, of a create
    (301, P, P),
    (307, P, P),
    (400, P, P),
    (401, P, P),
    (402, P, P),
    (403, P, P),
    (404, P, P),
    (408, T, A),
    (409, T, A),
    (413, P, P),
    (422, P, P),
    (425, T, T),
    (429, T, T),
    (500, T, A),
    (502, T, A),
    (503, T, A),
    (504, T, A),
    (520, T, A),
    (524, T, A),
    (529, T, A),
]


@pytest.mark.parametrize(("status", "of_read", "of_create"), STATUS_TABLE)
async def test_each_status_says_what_may_be_done_next(
    status: int, of_read: type[ProviderError], of_create: type[ProviderError]
) -> None:
    answer = {"error": {"code": "c", "message": "m"}}
    with pytest.raises(of_read) as of_a_read:
        await read(httpx.Response(status, json=answer))
    with pytest.raises(of_create) as of_a_create:
        await create(httpx.Response(status, json=answer))
    assert of_a_read.value.status == of_a_create.value.status == status
    assert of_a_read.value.code == "c"


SILENCES = [
    # exception, of a read, of a create
    (httpx.ConnectError("refused"), T, T),
    (httpx.ConnectTimeout("slow"), T, T),
    (httpx.PoolTimeout("busy"), T, T),
    (httpx.ProxyError("no"), T, T),
    (httpx.ReadTimeout("silence"), T, A),
    (httpx.WriteTimeout("stuck"), T, A),
    (httpx.ReadError("reset"), T, A),
    (httpx.WriteError("reset"), T, A),
    (httpx.CloseError("x"), T, A),
    (httpx.RemoteProtocolError("Server disconnected"), T, A),
    (httpx.LocalProtocolError("Can't send data in this state"), T, A),
    (httpx.DecodingError("bad gzip"), T, A),
    (httpx.TooManyRedirects("loop"), T, A),
    (httpx.StreamClosed(), T, A),
    (httpx.CookieConflict("two"), T, A),
    (httpx.InvalidURL("bad"), P, P),
    (httpx.UnsupportedProtocol("ftp"), P, P),
]


@pytest.mark.parametrize(("error", "of_read", "of_create"), SILENCES, ids=lambda v: getattr(v, "__name__", repr(v)))
async def test_each_silence_says_what_may_be_done_next(
    error: Exception, of_read: type[ProviderError], of_create: type[ProviderError]
) -> None:
    with pytest.raises(of_read, match=type(error).__name__) as caught:
        await read(error)
    assert caught.value.status is None
    with pytest.raises(of_create):
        await create(error)


def test_no_exception_class_of_the_client_is_forgotten() -> None:
    tried = {type(error) for error, _, _ in SILENCES}
    known = {value for value in vars(httpx).values() if isinstance(value, type) and issubclass(value, Exception)}
    leaves = {kind for kind in known if not any(other is not kind and issubclass(other, kind) for other in known)}
    assert leaves - tried == {httpx.HTTPStatusError, httpx.ResponseNotRead, httpx.RequestNotRead, httpx.StreamConsumed}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<html>maintenance</html>"),
        httpx.Response(200, content=b""),
        httpx.Response(204),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"id": 7}),
        httpx.Response(200, content=b'{"id": "x'),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b'{"id": "\xff"}'),
    ],
)
async def test_an_answer_that_is_none_is_waited_out_or_looked_into(answer: httpx.Response) -> None:
    with pytest.raises(TransientProviderError):
        await read(answer)
    with pytest.raises(AmbiguousProviderError):
        await create(answer)


async def test_an_account_without_money_is_not_waited_for() -> None:
    for call in (read, create):
        with pytest.raises(PermanentProviderError) as caught:
            await call(httpx.Response(429, json={"error": {"code": "no_money", "message": "m"}}))
        assert caught.value.code == "no_money"


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, timedelta(seconds=7)),
        ({"retry-after": "0"}, timedelta(0)),
        ({"retry-after": "-5"}, timedelta(0)),
        ({"retry-after": "1.5"}, timedelta(seconds=1.5)),
        ({"retry-after-ms": "250", "retry-after": "9"}, timedelta(seconds=0.25)),
        ({"retry-after-ms": "soon", "retry-after": "9"}, timedelta(seconds=9)),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:30 GMT"}, timedelta(seconds=90)),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, timedelta(0)),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, timedelta(days=1)),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], wait: timedelta | None) -> None:
    assert retry_after(httpx.Headers(headers), NOW) == wait


async def test_an_error_carries_the_wait_and_the_request_id() -> None:
    headers = {"retry-after": "3", "x-request-id": "req_9"}
    with pytest.raises(TransientProviderError, match="req_9") as caught:
        await read(httpx.Response(429, headers=headers, json={}))
    assert caught.value.retry_after == timedelta(seconds=3)


async def test_no_key_and_no_long_body_is_in_an_error_text() -> None:
    echo = {"error": {"message": f"Incorrect key {KEY}, or Bearer {KEY}, or sk-other***1234. " + "x" * 5000}}
    for answer in (
        httpx.Response(401, json=echo),
        httpx.Response(502, text=f"<pre>{KEY}</pre>" + "prompt " * 5000),
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"),
    ):
        with pytest.raises(ProviderError) as caught:
            await read(answer)
        assert "secret" not in str(caught.value)
        assert "sk-" not in str(caught.value)
        assert len(str(caught.value)) < 700


async def test_a_redirect_is_not_followed() -> None:
    with pytest.raises(PermanentProviderError, match="base URL"):
        await read(httpx.Response(302, headers={"location": "http://elsewhere/"}))


def test_a_key_that_no_header_can_hold_is_refused_without_being_quoted() -> None:
    dialect = Dialect(provider="fake", read_fault=read_fault, final_codes=frozenset())
    for key in ("sk-secret\n", "sk-secret\u201d"):
        with pytest.raises(ConfigurationError) as caught:
            Api(dialect, base_url="http://fake", headers={"x-api-key": key})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("pieces", [[b"1234567890", b"12345"], [b"123"], [], [b"12345", b"67890", b"x"]])
async def test_a_body_of_another_length_than_announced_is_never_sent_whole(pieces: list[bytes]) -> None:
    sent: list[bytes] = []

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    class Wire(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for piece in request.stream:
                sent.append(piece)  # noqa: PERF401 - what was sent before the error counts
            raise AssertionError("the body was sent as if it were whole")

    dialect = Dialect(provider="fake", read_fault=read_fault, final_codes=frozenset())
    client = Api(dialect, base_url="http://fake", headers={}, transport=Wire())
    body = Body(chunks=chunks(), length=10, content_type="text/plain")
    with pytest.raises(PermanentProviderError, match="bytes"):
        await client.create("create", "/x", body=body, needs={})
    assert len(b"".join(sent)) < 10


async def test_an_error_of_the_database_in_the_middle_of_a_body_passes_through() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1"
        raise LookupError("the database is gone")

    body = Body(chunks=chunks(), length=2, content_type="text/plain")
    with pytest.raises(LookupError):
        await api(httpx.Response(200)).create("create", "/x", body=body, needs={})


async def lines_of(answer: Any, offset: int = 0, *, as_is: bool = False) -> list[bytes]:
    position = ResultPosition(source="results", offset=offset)
    blocks = api(answer).lines("read", "/x", position, as_is=as_is)
    return [line async for block in blocks for line in block.lines]


async def test_a_download_that_ends_short_is_not_taken_for_the_whole_file() -> None:
    answer = httpx.Response(200, headers={"content-length": "9"}, stream=httpx.ByteStream(b"{}\n{}\n"))
    with pytest.raises(TransientProviderError, match="6 of 9"):
        await lines_of(answer)


async def test_a_file_shorter_than_what_was_read_before_is_not_the_same_file() -> None:
    with pytest.raises(IncompleteResultsError, match="shorter"):
        await lines_of(httpx.Response(200, content=b"{}\n"), offset=6)
    assert await lines_of(httpx.Response(200, content=b"{}\n"), offset=6, as_is=True) == []


@pytest.mark.parametrize("half", [b'{"n":', b'{"n":1', b'{"n":"1', b"{", b'{"t":"\xf0\x9f', b'{"n":' * 200_000])
async def test_half_a_line_at_the_end_of_a_file_is_not_taken_for_a_whole_one(half: bytes) -> None:
    came: list[bytes] = []

    async def read() -> None:
        async for block in api(httpx.Response(200, content=b"{}\n" + half)).lines("read", "/x", ResultPosition()):
            came.extend(block.lines)

    with pytest.raises(IncompleteResultsError, match="within a line"):
        await read()
    assert came == [b"{}"]
    assert await lines_of(httpx.Response(200, content=b"{}\n" + half), as_is=True) == [b"{}", half]


@pytest.mark.parametrize("last", [b'{"n":1}', b'{"n":NaN}\r', b'{"n":"\xff\\ud800"} ', b'{"n":' * 200_000 + b"1}"])
async def test_a_last_line_that_is_whole_needs_no_line_end_and_may_get_one_later(last: bytes) -> None:
    file = b"{}\n" + last
    assert await lines_of(httpx.Response(200, content=file), offset=3) == [last.removesuffix(b"\r")]
    grown = httpx.Response(200, content=file + b"\n{}\n")
    assert await lines_of(grown, offset=len(file)) == [b"{}"]


async def test_a_maintenance_page_is_not_a_result_file() -> None:
    with pytest.raises(TransientProviderError, match="HTML"):
        await lines_of(httpx.Response(200, html="<html>\nback soon\n</html>"))


async def test_a_download_that_is_refused_says_why() -> None:
    with pytest.raises(PermanentProviderError, match="gone"):
        await lines_of(httpx.Response(404, json={"error": {"message": "gone"}}))


async def test_a_connection_that_breaks_in_a_download_is_waited_out() -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{}\n"
            raise httpx.ReadError("reset")

    with pytest.raises(TransientProviderError, match="ReadError"):
        await lines_of(httpx.Response(200, stream=Breaking()))


# Downloads that go on where an earlier one was committed.

FILE = b'{"n":1}\n{"n":22}\n{"n":333}\n'
BEHIND_FIRST = 8


class FileServer:
    """A result file, from a server that answers a wish for its rest in a way of its own."""

    def __init__(self, rest: httpx.Response | None) -> None:
        self.rest, self.asked = rest, list[str | None]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("range"))
        return self.rest if self.asked[-1] and self.rest else httpx.Response(200, content=FILE)

    async def lines(self, offset: int) -> list[bytes]:
        dialect = Dialect(provider="fake", read_fault=read_fault, final_codes=frozenset())
        client = Api(dialect, base_url="http://fake", headers={}, transport=httpx.MockTransport(self))
        position = ResultPosition(source="results", offset=offset)
        return [line async for block in client.lines("read", "/x", position) for line in block.lines]


def rest(start: int, end: int = len(FILE) - 1, size: str = str(len(FILE)), **headers: str) -> httpx.Response:
    said = {"content-range": f"bytes {start}-{end}/{size}", **headers}
    return httpx.Response(206, content=FILE[start : end + 1], headers=said)


async def test_only_the_rest_of_a_file_is_asked_for() -> None:
    server = FileServer(rest(BEHIND_FIRST - 1))
    assert await server.lines(BEHIND_FIRST) == [b'{"n":22}', b'{"n":333}']
    assert server.asked == [f"bytes={BEHIND_FIRST - 1}-"]


async def test_behind_the_last_line_there_is_nothing_and_that_is_no_error() -> None:
    server = FileServer(rest(len(FILE) - 1))
    assert await server.lines(len(FILE)) == []
    assert server.asked == [f"bytes={len(FILE) - 1}-"]


async def test_the_beginning_of_a_file_is_asked_for_without_a_range() -> None:
    server = FileServer(None)
    assert len(await server.lines(0)) == 3
    assert server.asked == [None]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        rest(0),
        rest(BEHIND_FIRST),
        rest(BEHIND_FIRST - 1, end=BEHIND_FIRST + 8),
        rest(BEHIND_FIRST - 1, size="*"),
        rest(BEHIND_FIRST - 1, **{"content-range": "lines 1-3/3"}),
        httpx.Response(206, content=FILE[BEHIND_FIRST - 1 :]),
        httpx.Response(416, headers={"content-range": f"bytes */{len(FILE)}"}),
    ],
    ids=["whole", "other start", "one late", "cut", "no size", "lines", "unsaid", "refused"],
)
async def test_a_server_that_does_not_send_the_rest_is_read_from_the_beginning(answer: httpx.Response | None) -> None:
    server = FileServer(answer)
    assert await server.lines(BEHIND_FIRST) == [b'{"n":22}', b'{"n":333}']


async def test_a_file_that_is_gone_meanwhile_is_not_asked_for_twice() -> None:
    server = FileServer(httpx.Response(404, json={"error": {"message": "gone"}}))
    with pytest.raises(PermanentProviderError, match="gone"):
        await server.lines(BEHIND_FIRST)
    assert len(server.asked) == 1
