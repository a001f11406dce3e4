"""The simulator on a port: in the foreground for the command line, in a thread for tests."""

import contextlib
import ipaddress
import socket
import threading
from asyncio import Transport
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from overnight.simulator.app import create_app
from overnight.simulator.calls import DROP
from overnight.simulator.config import SimulatorConfig


class NotLoopbackError(ValueError):
    """Refused: anybody who can reach the simulator can script it."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where a running simulator is to be found."""

    url: str

    @property
    def openai_base_url(self) -> str:
        """For OPENAI_BASE_URL; the SDK expects the version in it."""
        return f"{self.url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """For ANTHROPIC_BASE_URL; the SDK adds the version itself."""
        return self.url

    def ready_line(self) -> str:
        return f"Simulator ready: OPENAI_BASE_URL={self.openai_base_url} ANTHROPIC_BASE_URL={self.anthropic_base_url}"

    def announce(self) -> None:
        print(self.ready_line(), flush=True)  # noqa: T201  (the promised line)


class _Protocol(H11Protocol):
    """Lets a call close its own connection, which ASGI has no word for."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # narrowed as uvicorn does
        super().connection_made(transport)
        inner: ASGIApp = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[DROP] = {"close": transport.close}
            await inner(scope, receive, send)

        self.app = app


def run(config: SimulatorConfig, host: str = "127.0.0.1", port: int = 0, *, allow_remote: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C. Prints one line, with the real port, once connections are accepted.

    Raises NotLoopbackError for a host that others can reach, unless `allow_remote` says that this is meant.
    """
    if not allow_remote and not is_loopback(host):
        raise NotLoopbackError(f"{host} is not a loopback address: the simulator has no access control of its own.")
    with _listener(host, port) as sock:
        where = Running(url=_url(sock))
        # uvicorn passes the signal on once it has shut down; a Ctrl-C is an orderly end here.
        with contextlib.suppress(KeyboardInterrupt):
            _Server(_uvicorn_config(config), where.announce).run(sockets=[sock])


@contextlib.contextmanager
def running(config: SimulatorConfig | None = None) -> Iterator[Running]:
    """A simulator in a thread of this process, on a free port of 127.0.0.1, for as long as the block lasts."""
    with _listener("127.0.0.1", 0) as sock:
        ready = threading.Event()
        server = _Server(_uvicorn_config(config or SimulatorConfig()), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="simulator", daemon=True)
        thread.start()
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("The simulator did not start; its log says why.")
        try:
            yield Running(url=_url(sock))
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_ready()


def _uvicorn_config(config: SimulatorConfig) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(config),
        http=_Protocol,
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        # A download that nobody finishes must not hold up a Ctrl-C.
        timeout_graceful_shutdown=1,
    )


@contextlib.contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every answer takes 40 ms more.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
        yield sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
