"""What stands between a browser and the pages: a token where there is one, and headers that allow next to nothing."""

import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "overnight_console"
_SESSION_SECONDS = 12 * 3600
_FORM_BYTES = 8 * 1024
_OPEN = ("/login", "/static/")

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

# Of a text that is served as it is: were it taken for a page after all, it could do nothing.
TEXT_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


class SecurityHeaders:
    """Adds to every answer the headers that it does not have already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class TokenGate:
    """Lets nobody in who does not show the token: as `Authorization: Bearer`, or once, in a form."""

    def __init__(self, app: ASGIApp, *, token: str, ask: Callable[[str], Response]) -> None:
        self._app, self._token, self._ask = app, token, ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OPEN) or is_known(HTTPConnection(scope), self._token):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        await self._ask(wanted)(scope, receive, send)


def is_known(connection: HTTPConnection, token: str) -> bool:
    """Whether the caller has shown the token, now or in the last hours."""
    shown = connection.headers.get("authorization", "")
    return _same(shown, f"Bearer {token}") or _is_session(connection.cookies.get(_COOKIE, ""), token)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


def _session(token: str, began: int) -> str:
    """Proof that somebody knew the token at that time. The token itself stays out of the browser's cookies."""
    proof = hmac.new(token.encode(), f"overnight console {began}".encode(), hashlib.sha256).hexdigest()
    return f"{began}.{proof}"


def _is_session(cookie: str, token: str) -> bool:
    began, _, _ = cookie.partition(".")
    if not (began.isascii() and began.isdecimal() and len(began) <= len(str(2**40))):
        return False
    return _same(cookie, _session(token, int(began))) and 0 <= time.time() - int(began) < _SESSION_SECONDS


def _local(path: str) -> str:
    """A path on this server; anything else is the start page. Browsers take a backslash for a slash."""
    is_path = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_path and path.isascii() else "/"


async def log_in(request: Request, *, token: str, refuse: Callable[[str], Response]) -> Response:
    """The form's answer: a cookie and the page that was wanted, or the form again."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            return Response("This is no login form.", status_code=413, media_type="text/plain")
    form = parse_qs(body.decode("latin-1"))
    wanted = _local(form.get("next", ["/"])[0])
    if not _same(form.get("token", [""])[0], token):
        return refuse(wanted)
    answer = RedirectResponse(wanted, status_code=303)
    answer.set_cookie(
        _COOKIE,
        _session(token, int(time.time())),
        max_age=_SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer
