"""Ports on loopback for servers that do not listen yet, such that two runs at once never meet on one.

Asking the kernel for a free port, closing the socket and hoping is a race. A `PortLease` keeps its
socket: bound, never listening, with SO_REUSEADDR. Linux hands a port held like that to nobody who asks
for any port, neither to listen nor to connect from, and still lets a server bind it by number when
it too sets SO_REUSEADDR, as Postgres and everything written in Go or asyncio does. So on Linux the lease
spans the whole life of a server, kills and restarts included. Elsewhere two sockets cannot share an address,
and the lease has to end right before the server binds.
"""

import socket
import sys
from types import TracebackType
from typing import Self

from overnight.errors import EmbeddedServerError

LOOPBACK = "127.0.0.1"
_CAN_SHARE = sys.platform == "linux"


class PortLease:
    """A port that is ours. Use as a context manager, or call `release` when the server is gone for good.

    Args:
        port: The port wanted, or None for any free one.

    Raises:
        EmbeddedServerError: Somebody listens on the wanted port.
    """

    def __init__(self, port: int | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port or 0))
        except OSError as error:
            self._socket.close()
            raise EmbeddedServerError(f"Port {port} on {LOOPBACK} is taken: {error}. Choose another.") from error
        self.port: int = self._socket.getsockname()[1]

    def let_server_bind(self) -> None:
        """Call right before the server starts. Where a port cannot be shared, this ends the protection."""
        if not _CAN_SHARE:
            self._socket.close()

    def release(self) -> None:
        """End the lease. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def free_port() -> int:
    """A port that was free a moment ago. Racy by nature: prefer to hold a `PortLease` until the server is up."""
    with PortLease() as lease:
        return lease.port
