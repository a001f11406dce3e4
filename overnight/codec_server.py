"""The codec server: lets Temporal's UI and CLI show what is encrypted, to people who may reach this server.

It speaks Temporal's remote codec protocol: POST /decode and /encode with payloads as protobuf's JSON. The browser calls
it, not the Temporal server, so it can stay on the operator's own machine.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Sequence

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads

from overnight.codec import EncryptionCodec
from overnight.errors import CodecKeyError

MAX_BYTES = 16 * 1024 * 1024
"""Of one request: a page of history. Temporal itself takes no payload over 2 MiB."""

_Code = Callable[[Iterable[Payload]], Awaitable[list[Payload]]]


def codec_app(
    codec: EncryptionCodec, *, ui_origins: Sequence[str], hosts: Sequence[str], token: str | None = None
) -> Starlette:
    """The server as an ASGI app.

    Args:
        codec: what encrypts and decrypts.
        ui_origins: where Temporal's UI is served: browsers let other pages read nothing from here.
        hosts: the names under which this server may be called, so that no foreign name can be made to point at it.
        token: what callers must show as `Authorization: Bearer`; none is asked for where it is None.
    """

    def endpoint(code: _Code) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if token is not None and not _shows(request, token):
                return PlainTextResponse("This codec server asks for a bearer token.", status_code=401)
            return await _coded(request, code)

        return answer

    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(ui_origins),
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type", "x-namespace"],
        allow_credentials=True,
    )
    routes = [Route(f"/{name}", endpoint(code), methods=["POST"]) for name, code in _codes(codec)]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)), cors])


def _codes(codec: EncryptionCodec) -> list[tuple[str, _Code]]:
    return [("decode", codec.decode), ("encode", codec.encode)]


def _shows(request: Request, token: str) -> bool:
    return hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode())


async def _coded(request: Request, code: _Code) -> Response:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            return PlainTextResponse(f"More than {MAX_BYTES} bytes of payloads.", status_code=413)
    try:
        payloads = Parse(body, Payloads())
        coded = await code(payloads.payloads)
    except (ParseError, UnicodeDecodeError) as error:
        return PlainTextResponse(f"These are no payloads: {type(error).__name__}", status_code=400)
    except CodecKeyError as error:
        return PlainTextResponse(str(error), status_code=422)
    return Response(MessageToJson(Payloads(payloads=coded)), media_type="application/json")
