"""One HTTP call at a provider: who calls, what meets it on the way in, and how it is written down."""

import asyncio
import contextlib
import functools
import hashlib
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from overnight.simulator.engine import Simulator
from overnight.simulator.errors import ApiError, error_body, json_response
from overnight.simulator.faults import (
    BatchEffect,
    CutEffect,
    DelayEffect,
    DropEffect,
    HtmlEffect,
    LineEffect,
    ListLagEffect,
    PinnedEffect,
    ShortEffect,
    StatusEffect,
    passive,
)
from overnight.simulator.models import Provider

DROP = "overnight.simulator.drop"
"""The ASGI extension by which our own server lets a call close its connection."""
CHUNK = 256 * 1024
RANGE = re.compile(r"bytes=(\d{1,18})-")
"""The one form of range that a download which goes on needs; others are ignored, as every server may."""


class ConnectionDroppedError(Exception):
    """Raised to drop a connection under a server without the extension; such a server closes it noisily."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a handler gets to see."""

    simulator: Simulator
    request: Request
    provider: Provider
    request_id: str
    client: str
    """A digest of the key: enough to count by, useless to anyone who finds it."""
    list_lag: float = 0.0
    short: ShortEffect | None = None


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(kw_only=True)
class _Meeting:
    """What the faults decided for one call."""

    delay: float = 0.0
    list_lag: float = 0.0
    short: ShortEffect | None = None
    effect: StatusEffect | HtmlEffect | DropEffect | CutEffect | None = None

    def add(self, effect: Any) -> None:
        if isinstance(effect, DelayEffect):
            self.delay += effect.seconds
        elif isinstance(effect, ListLagEffect):
            self.list_lag = max(self.list_lag, effect.seconds)
        elif isinstance(effect, ShortEffect):
            self.short = self.short or effect
        else:
            self.effect = effect


def meet_faults(simulator: Simulator, provider: Provider, operation: str) -> _Meeting:
    """Count this call against every fault that fits; the first that answers it wins."""
    meeting, counted = _Meeting(), []
    for live in simulator.store.faults():
        effect = live.fault.effect
        if live.pinned() or not live.fault.match.fits(provider, operation):
            continue
        met = live.meets(simulator.config.seed, simulator.now()) and (passive(effect) or meeting.effect is None)
        counted.append(live.after(met=met))
        if met:
            meeting.add(effect)
    simulator.store.put_faults(counted)
    return meeting


def pinned_effects(simulator: Simulator, provider: Provider) -> tuple[PinnedEffect, ...]:
    """What the batch that is being accepted will suffer. Counts accepted creates, not attempts."""
    pinned: list[PinnedEffect] = []
    counted = []
    for live in simulator.store.faults():
        effect = live.fault.effect
        if not isinstance(effect, BatchEffect | LineEffect) or not live.fault.match.fits(provider, "batches.create"):
            continue
        met = live.meets(simulator.config.seed, simulator.now())
        counted.append(live.after(met=met))
        if met:
            pinned.append(effect)
    simulator.store.put_faults(counted)
    return tuple(pinned)


class Operation:
    """The ASGI endpoint of one operation: faults, then the key, then the handler."""

    def __init__(self, simulator: Simulator, provider: Provider, name: str, handler: Handler) -> None:
        self.simulator = simulator
        self.provider = provider
        self.name = name
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        key = api_key(request, self.provider)
        meeting = meet_faults(self.simulator, self.provider, self.name)
        call = Call(
            simulator=self.simulator,
            request=request,
            provider=self.provider,
            request_id=f"req_{uuid4().hex[:24]}",
            client=hashlib.sha256(key.encode()).hexdigest()[:12] if key else "nobody",
            list_lag=meeting.list_lag,
            short=meeting.short,
        )
        out = _Sender(request, send, self._id_header(call), functools.partial(self._count, call))
        await asyncio.sleep(meeting.delay)
        try:
            await self._answered(call, key, meeting.effect, out)
        except Exception:
            out.count_once(500)
            raise

    def _id_header(self, call: Call) -> tuple[bytes, bytes]:
        name = b"request-id" if self.provider == "anthropic" else b"x-request-id"
        return name, call.request_id.encode()

    def _count(self, call: Call, status: int) -> None:
        self.simulator.store.count_call(self.provider, self.name, call.client, status)

    async def _answered(self, call: Call, key: str, effect: Any, out: "_Sender") -> None:
        """Effects before the work, the work, effects instead of its answer."""
        if isinstance(effect, HtmlEffect | StatusEffect | DropEffect) and not _after_work(effect):
            await _drained(call.request)
            await self._instead(call, effect, out)
            return
        response = await self._worked(call, key)
        if isinstance(effect, CutEffect):
            out.cut_after = effect.after_bytes
        if isinstance(effect, StatusEffect | DropEffect):
            await self._instead(call, effect, out)
        else:
            await response(call.request.scope, call.request.receive, out)

    async def _worked(self, call: Call, key: str) -> Response:
        try:
            check_key(call, key)
            return await self.handler(call)
        except ApiError as error:
            # What is left of a refused upload is read, so that its sender gets to see the refusal.
            await _drained(call.request)
            return json_response(error_body(self.provider, error, call.request_id), status=error.status)

    async def _instead(self, call: Call, effect: StatusEffect | HtmlEffect | DropEffect, out: "_Sender") -> None:
        if isinstance(effect, DropEffect):
            await out.drop()
            return
        scripted = scripted_response(self.provider, effect, call.request_id)
        await scripted(call.request.scope, call.request.receive, out)


def _after_work(effect: Any) -> bool:
    return getattr(effect, "kind", "") in {"answer_lost", "status_after_accept"}


def scripted_response(provider: Provider, effect: StatusEffect | HtmlEffect, request_id: str) -> Response:
    if isinstance(effect, HtmlEffect):
        return Response(effect.body, status_code=effect.status, media_type=effect.content_type)
    body = effect.body
    if body is None:
        error = ApiError("A scripted fault answered this request.", status=effect.status)
        body = error_body(provider, error, request_id)
    response = json_response(body, status=effect.status)
    if isinstance(body, str):
        response = Response(body, status_code=effect.status, media_type="text/plain")
    if effect.retry_after is not None:
        response.headers["retry-after"] = (
            f"{effect.retry_after:g}" if isinstance(effect.retry_after, float) else effect.retry_after
        )
    response.headers.update(effect.headers)
    return response


def api_key(request: Request, provider: Provider) -> str:
    """Both forms are in use at Anthropic: `x-api-key` in its documentation, a bearer token from its newest SDK."""
    given = request.headers.get("x-api-key", "") if provider == "anthropic" else ""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return given or (token.strip() if scheme.lower() == "bearer" else "")


def check_key(call: Call, key: str) -> None:
    if call.provider == "anthropic":
        if not key or not call.simulator.config.accepts(key):
            raise ApiError("invalid x-api-key" if key else "x-api-key header is required", status=401)
        if not call.request.headers.get("anthropic-version"):
            raise ApiError("anthropic-version: header is required")
        return
    if not key:
        raise ApiError("You didn't provide an API key. Send it as a bearer token.", status=401)
    if not call.simulator.config.accepts(key):
        raise ApiError("Incorrect API key provided.", status=401, code="invalid_api_key")


async def _drained(request: Request) -> None:
    """Read the rest of a body, which may have been read already, or have lost its sender."""
    with contextlib.suppress(Exception):
        async for _ in request.stream():
            pass


class _Sender:
    """The way out: adds the request id, cuts where a fault says so, and has the call counted before it is answered.

    Whoever reads the counts after an answer must find that answer in them.
    """

    def __init__(self, request: Request, send: Send, header: tuple[bytes, bytes], count: Callable[[int], None]) -> None:
        self.request = request
        self.send = send
        self.header = header
        self.count = count
        self.counted = False
        self.cut_after: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.count_once(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), self.header]}
        if message["type"] == "http.response.body" and self.cut_after is not None:
            await self.cut(message)
            return
        await self.send(message)

    def count_once(self, status: int) -> None:
        if not self.counted:
            self.counted = True
            self.count(status)

    async def cut(self, message: Message) -> None:
        assert self.cut_after is not None
        body = message.get("body", b"")[: self.cut_after]
        self.cut_after -= len(body)
        if body:
            await self.send({"type": "http.response.body", "body": body, "more_body": True})
        if self.cut_after <= 0 or not message.get("more_body", False):
            await self.drop()

    async def drop(self) -> None:
        self.count_once(0)
        close = self.request.scope.get("extensions", {}).get(DROP, {}).get("close")
        if close is None:
            raise ConnectionDroppedError("The simulator drops this connection.")
        close()
        # Until the server has noticed, it would take the missing answer for a mistake of ours.
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


def send_file(call: Call, path: Path, media_type: str) -> Response:
    """A file by chunks: from its beginning, or from where the call wants it, if that is what this simulator does."""
    size = path.stat().st_size if call.short is None else _shortened(path, call.short)
    asked = RANGE.fullmatch(call.request.headers.get("range", "")) if call.simulator.config.ranges else None
    start = int(asked[1]) if asked else 0
    if asked and start >= size:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})

    async def chunks() -> AsyncIterator[bytes]:
        async with await anyio.open_file(path, "rb") as source:
            left = size - await source.seek(start)
            while chunk := await source.read(min(CHUNK, left)):
                left -= len(chunk)
                yield chunk

    headers = {"content-length": str(size - start)}
    if asked:
        headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
    return StreamingResponse(chunks(), status_code=206 if asked else 200, media_type=media_type, headers=headers)


def _shortened(path: Path, short: ShortEffect) -> int:
    with path.open("rb") as lines:
        size = sum(len(line) for line in itertools.islice(lines, short.lines))
        return size + (len(next(lines, b"")) // 2 if short.half_line else 0)


async def body_object(call: Call) -> dict[str, Any]:
    """A small JSON body. Raises ApiError unless it is an object."""
    try:
        body = await call.request.json()
    except ValueError as error:
        raise ApiError("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise ApiError("The request body must be a JSON object.")
    return body
