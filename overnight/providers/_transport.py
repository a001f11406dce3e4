"""Reading from the network in larger pieces.

Every piece of a download goes through a dozen asynchronous layers, which take longer than all that is done with its
bytes. httpx takes what one record of TLS holds, 16 KB, or 64 KB where nothing is encrypted. Here a piece is all that
has arrived.
"""

import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.request import getproxies

import httpcore
import httpx

READ_BYTES = 256 * 1024
"""At most; asyncio takes no more out of a socket at once."""
RECORD_BYTES = 16 * 1024
"""At most in a record of TLS (RFC 8446, 5.1)."""


class _Plain(httpcore.AsyncNetworkStream):
    """A connection that is asked for more than its user asks for; whatever comes, the user can take."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        return await self._stream.read(max(max_bytes, READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> httpcore.AsyncNetworkStream:
        return _Encrypted(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Encrypted(_Plain):
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as above
        """The next record, and those behind it that have arrived in whole."""
        first = await self._stream.read(max_bytes, timeout)
        tls = self.get_extra_info("ssl_object")
        return b"".join((first, *_arrived(tls))) if first and isinstance(tls, ssl.SSLObject) else first


def _arrived(tls: ssl.SSLObject) -> Iterator[bytes]:
    """What can be decrypted without waiting. An end or an error is not lost: it comes again with the next read."""
    room = READ_BYTES
    with suppress(ssl.SSLError):
        while room > 0 and (piece := tls.read(RECORD_BYTES)):
            room -= len(piece)
            yield piece


class _Network(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Plain(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self) -> None:  # the base class would make a pool of its own, and do nothing else
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            # httpx's own limits.
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Network(),
        )


def in_large_pieces() -> httpx.AsyncBaseTransport | None:
    """For clients of providers; None where the environment names proxies, which only httpx's own transports keep to."""
    return None if getproxies().keys() & {"http", "https", "all"} else _Transport()
