"""Small web servers for people: the codec server and the web console. Loopback, unless a token guards them."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette

from overnight.errors import ConfigurationError

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_token(host: str, token: str | None, *, variable: str) -> None:
    """Refuse to listen where others can reach us, unless they must show a token.

    Raises:
        ConfigurationError: it would be open to everybody on the network.
    """
    if token is None and not is_loopback(host):
        raise ConfigurationError(
            f"{host} can be reached from other machines. Set {variable} to a secret that callers must show, or listen "
            f"on 127.0.0.1."
        )


def allowed_hosts(host: str, names: Sequence[str] = ()) -> list[str]:
    """The names that a browser may call the server by; any other one is a foreign page's trick (DNS rebinding)."""
    own = _LOOPBACK_NAMES if is_loopback(host) else (host,)
    return [*own, *names]


async def serve(app: Starlette, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is told the URL once connections are accepted. Port 0 is any free one.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    with _listening(host, port) as sock:
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes the signal on after its own shutdown
            await _Server(config, lambda: on_ready(_url(sock))).serve(sockets=[sock])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port."
            ) from None
        sock.listen(128)
        yield sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
