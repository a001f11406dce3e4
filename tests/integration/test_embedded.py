"""The embedded servers, for real: they start, keep what they promise, and never outlive us."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus

from overnight.embedded import (
    EmbeddedPostgres,
    EmbeddedTemporal,
    ManagedProcess,
    PortLease,
    Program,
    _leftovers,
    _root,
    postgres,
    running_stack,
    tcp_accepts,
    temporal,
)
from overnight.embedded.process import finish
from overnight.errors import EmbeddedServerError

REPOSITORY = Path(__file__).parents[2]
BOUND_SECONDS = 60  # generous: a slow machine is no failure
MARK = "OVERNIGHT_TEST_MARK"


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def eventually_async(condition: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(eventually, condition)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that one parent process started, found without asking the code under test."""

    mark: str
    folder: Path

    def members(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._has(process)]

    def names(self) -> set[str]:
        return {name for process in self.members() if (name := _name(process)) is not None}

    def has_reached(self, moment: str) -> bool:
        if moment == "postgres":  # by name it would also be what initdb runs, for its own purposes
            return (self.folder / "postgres" / "cluster" / "pgdata" / "postmaster.pid").exists()
        return moment in self.names()

    def _has(self, process: psutil.Process) -> bool:
        # Postgres writes its titles over its environment, but every one of its processes works in the data folder.
        try:
            return process.environ().get(MARK) == self.mark or self._owns(Path(process.cwd()))
        except (psutil.Error, OSError):
            return False

    def _owns(self, cwd: Path) -> bool:
        cluster = (self.folder / "postgres" / "cluster").resolve()
        return cwd.is_relative_to(cluster) or cwd.is_relative_to(self.folder)


def _name(process: psutil.Process) -> str | None:
    try:
        return process.name() if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


PARENT = """
import asyncio, sys
from pathlib import Path
from overnight.embedded import running_stack, stop_on_signals

async def main():
    with stop_on_signals():
        async with running_stack(folder=Path(sys.argv[1]), durable=False):
            print("ready", flush=True)
            await asyncio.sleep(3600)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A Python process that runs a stack, and whom a test ends in some rude way."""

    process: subprocess.Popen[str]
    family: Family

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def wait_until_it_runs(self, program: str) -> None:
        assert eventually(lambda: self.family.has_reached(program) or self.process.poll() is not None)
        assert self.process.poll() is None


@contextmanager
def parent_running(script: str, folder: Path) -> Iterator[Parent]:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, MARK: mark, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield Parent(process=process, family=Family(mark=mark, folder=folder))
    finally:
        process.kill()
        process.wait()


def program_of(script: str, folder: Path, *, name: str = "the program") -> Program:
    return Program(name=name, argv=[sys.executable, "-c", textwrap.dedent(script)], log_file=folder / "program.log")


# Postgres


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(data_dir=tmp_path / "postgres", durable=False) as started:
        yield started


async def ask(server: EmbeddedPostgres, sql: str) -> object:
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        cursor = await connection.execute(sql.encode())
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None


async def test_postgres_answers_sql_in_the_database_it_was_asked_for(server: EmbeddedPostgres) -> None:
    assert await ask(server, "SELECT current_database()") == "overnight"
    assert await ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert await ask(server, "SHOW fsync") == "off"
    assert server.url == server.dsn.replace("postgresql://", "postgresql+psycopg://")


async def test_postgres_is_durable_unless_told_otherwise() -> None:
    async with EmbeddedPostgres(settings={"max_connections": "17"}) as server:
        durable = [await ask(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
        assert durable == ["on", "on", "on"]
        assert await ask(server, "SHOW max_connections") == "17"


async def test_postgres_refuses_a_client_without_the_password(server: EmbeddedPostgres) -> None:
    anybody = f"postgresql://postgres:guess@127.0.0.1:{server.port}/overnight"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(anybody)


async def test_postgres_keeps_every_commit_over_a_kill_and_comes_back_on_the_same_port(
    server: EmbeddedPostgres,
) -> None:
    port = server.port
    await ask(server, "CREATE TABLE kept (n int)")
    for n in range(1, 4):
        await ask(server, f"INSERT INTO kept VALUES ({n})")
        await server.kill()
        assert not server.is_running
        await server.start()
        assert await ask(server, "SELECT count(*) FROM kept") == n
    assert server.port == port


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us adopt orphans")
async def test_a_killed_postgres_takes_its_busy_backends_along(server: EmbeddedPostgres) -> None:
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        # Nothing that a backend would interrupt to look whether its postmaster lives.
        busy = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 100000000000)"))
        backends = psutil.Process(server.pid).children()
        assert connection.info.backend_pid in [backend.pid for backend in backends]
        await server.kill()
        assert [backend for backend in backends if backend.is_running()] == []
        with pytest.raises(psycopg.OperationalError):
            await busy


async def test_postgres_starts_again_after_somebody_else_killed_it(server: EmbeddedPostgres) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert await eventually_async(lambda: not server.is_running)
    await server.start()
    assert await ask(server, "SELECT 1") == 1


async def test_postgres_keeps_its_data_and_port_over_an_orderly_stop(server: EmbeddedPostgres) -> None:
    port = server.port
    await ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    await server.stop()
    await server.stop()
    await server.start()
    assert server.port == port
    assert await ask(server, "SELECT n FROM kept") == 7


async def test_another_object_finds_the_data_of_the_folder_and_adds_its_own_database(tmp_path: Path) -> None:
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False) as first:
        await ask(first, "CREATE TABLE kept AS SELECT 7 AS n")
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False) as second:
        assert await ask(second, "SELECT n FROM kept") == 7
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False, database='o"ther') as third:
        assert await ask(third, "SELECT count(*) FROM pg_database WHERE datname IN ('overnight', 'o\"ther')") == 2


async def test_a_temporary_postgres_leaves_no_folder() -> None:
    async with EmbeddedPostgres(durable=False) as server:
        folder = server.log_file.parent
        assert folder.exists()
    assert not folder.exists()


async def test_an_initialisation_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False):
        pass
    cluster = tmp_path / "cluster"
    (cluster / "pgdata").rename(cluster / "pgdata.draft")
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False) as server:
        assert await ask(server, "SELECT 1") == 1


async def test_a_lock_whose_process_id_now_belongs_to_another_program_is_no_obstacle(tmp_path: Path) -> None:
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False):
        pass
    lock = tmp_path / "cluster" / "pgdata" / "postmaster.pid"
    # Of the same account as Postgres, which by itself ignores those of others.
    stranger = Program(
        name="stranger", argv=["sleep", "3600"], log_file=tmp_path / "log", run_as=_root.account_for_postgres()
    )
    async with await ManagedProcess.start(stranger) as other:
        lock.write_text(f"{other.pid}\n{lock.parent}\n")
        async with EmbeddedPostgres(data_dir=tmp_path, durable=False) as server:
            assert await ask(server, "SELECT 1") == 1


async def test_a_second_postgres_on_the_folder_of_a_running_one_is_refused(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_leftovers, "_PATIENCE", timedelta(0))
    with pytest.raises(EmbeddedServerError, match=f"Another Postgres, pid {server.pid}, runs on"):
        await EmbeddedPostgres(data_dir=server.log_file.parent).start()
    assert await ask(server, "SELECT 1") == 1


async def test_starting_a_running_server_is_refused_and_does_it_no_harm(server: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedServerError, match="already runs"):
        await server.start()
    assert await ask(server, "SELECT 1") == 1


async def test_a_setting_that_postgres_refuses_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        await EmbeddedPostgres(data_dir=tmp_path, settings={"no_such_setting": "1"}, durable=False).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run Postgres as itself")
async def test_below_a_folder_closed_to_nobody_root_gets_a_cluster_elsewhere_and_a_link(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(data_dir=closed / "postgres", durable=False) as server:
        assert psutil.Process(server.pid).username() == "nobody"
        assert (closed / "postgres" / "cluster").readlink().parent == _root.SHARED
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run Postgres as itself")
async def test_programs_that_nobody_cannot_reach_are_copied_once_and_run_from_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_root, "reaches", lambda account, path: False)
    monkeypatch.setattr(_root, "SHARED", Path(f"/tmp/overnight-test-{uuid.uuid4().hex}"))
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False) as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(_root.SHARED)
        assert await ask(server, "SELECT 1") == 1
    copies = sorted(_root.SHARED.iterdir())
    async with EmbeddedPostgres(data_dir=tmp_path, durable=False):
        assert sorted(_root.SHARED.iterdir()) == copies
    shutil.rmtree(_root.SHARED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run Postgres as itself")
def test_processes_that_start_at_once_do_not_stumble_over_the_clusters_that_all_of_them_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readlink = Path.readlink

    def hesitantly(path: Path) -> Path:
        time.sleep(random.uniform(0, 0.01))
        return readlink(path)

    monkeypatch.setattr(Path, "readlink", hesitantly)
    monkeypatch.setattr(_root, "SHARED", tmp_path / "shared")
    monkeypatch.setattr(_root.tempfile, "tempdir", f"{tmp_path}")
    for number in range(20):
        cluster = _root.shared_folder() / f"cluster-{number}"
        cluster.mkdir()
        (cluster / "origin").symlink_to(tmp_path / f"gone-{number}" / "cluster")
    links = [tmp_path / f"folder-{number}" / "cluster" for number in range(4)]
    for link in links:
        link.parent.mkdir()

    with ThreadPoolExecutor() as pool:
        list(pool.map(_root.place_cluster, links))

    assert sorted((tmp_path / "shared").glob("cluster-*")) == sorted(link.resolve() for link in links)


# Temporal


async def test_temporal_answers_for_its_namespace_with_what_it_was_told_to_register() -> None:
    async with EmbeddedTemporal(
        namespace="night shift",
        search_attributes={"OvernightStatus": "Keyword", "OvernightEntries": "Int"},
        dynamic_config={"history.timerProcessorMaxTimeShift": "10ms"},
        retention=timedelta(days=30),
    ) as server:
        client = await Client.connect(server.address, namespace=server.namespace)
        found = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=server.namespace)
        )
        assert found.custom_attributes["OvernightStatus"] == IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        assert found.custom_attributes["OvernightEntries"] == IndexedValueType.INDEXED_VALUE_TYPE_INT
        namespace = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=server.namespace)
        )
        assert namespace.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)
        assert await tcp_accepts(server.ui_port)()
        assert server.workflow_url("batch-1/x") == f"{server.ui_url}/namespaces/night%20shift/workflows/batch-1%2Fx"


async def test_temporal_keeps_its_workflows_and_ports_over_a_kill_when_it_has_a_file(tmp_path: Path) -> None:
    attributes = {"OvernightStatus": "Keyword"}
    async with EmbeddedTemporal(db_file=tmp_path / "new" / "temporal.db", search_attributes=attributes) as server:
        address, ui_url = server.address, server.ui_url
        client = await Client.connect(address)
        await client.start_workflow("Batch", id="batch-1", task_queue="nobody-listens")
        await server.kill()
        await server.start()
        assert (server.address, server.ui_url) == (address, ui_url)
        description = await client.get_workflow_handle("batch-1").describe()
        assert description.status is WorkflowExecutionStatus.RUNNING


async def test_a_retention_that_temporal_refuses_is_an_error_and_nothing_runs_on() -> None:
    server = EmbeddedTemporal(retention=timedelta(seconds=1))
    with pytest.raises(EmbeddedServerError, match="refused a retention"):
        await server.start()
    assert not server.is_running


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(temporal.sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    for server in (EmbeddedPostgres(), EmbeddedTemporal()):
        with pytest.raises(EmbeddedServerError, match=r"pip install 'overnight\[embedded\]'"):
            await server.start()


# Both


async def test_two_stacks_run_at_the_same_time(tmp_path: Path) -> None:
    async with running_stack(folder=tmp_path / "a", durable=False) as a, running_stack(durable=False) as b:
        ports = [port for s in (a, b) for port in (s.postgres.port, s.temporal.port, s.temporal.ui_port)]
        assert len(set(ports)) == len(ports)
        assert [await ask(s.postgres, "SELECT 1") for s in (a, b)] == [1, 1]
        pids = [pid for s in (a, b) for pid in (s.postgres.pid, s.temporal.pid)]
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_stack_whose_one_half_cannot_start_stops_the_other_half(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"Port {port} on 127.0.0.1 is taken"):
            async with running_stack(folder=tmp_path, durable=False, temporal_port=port):
                pass
    assert Family(mark="none", folder=tmp_path).members() == []


def test_a_parent_killed_outright_leaves_no_process_behind(tmp_path: Path) -> None:
    with parent_running(PARENT, tmp_path) as parent:
        parent.wait_until_ready()
        assert {"postgres", "temporal"} <= parent.family.names()
        parent.process.kill()
        assert eventually(lambda: parent.family.names() == set())


WITH_TEMPORARY_FOLDERS = """
import asyncio, sys, tempfile
from overnight.embedded import running_stack

async def main():
    tempfile.tempdir = sys.argv[1]
    async with running_stack(durable=False):
        print("ready", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_a_parent_killed_outright_leaves_no_temporary_folder_behind(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with parent_running(WITH_TEMPORARY_FOLDERS, tmp_path) as parent:
        parent.wait_until_ready()
        assert len(list(tmp_path.iterdir())) == 2
        parent.process.kill()
        assert eventually(lambda: list(tmp_path.iterdir()) == [])


@pytest.mark.parametrize("moment", ["initdb", "postgres", "temporal"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_parent_interrupted_while_it_starts_leaves_no_process_behind(
    signum: signal.Signals, moment: str, tmp_path: Path
) -> None:
    with parent_running(PARENT, tmp_path) as parent:
        parent.wait_until_it_runs(moment)
        parent.process.send_signal(signum)
        parent.process.wait()
        if signum is signal.SIGKILL:
            assert eventually(lambda: parent.family.names() == set())
        else:
            assert parent.family.names() == set(), "it ended before its servers did"
            assert parent.process.returncode == 128 + signum


def test_a_stack_starts_on_the_folder_of_a_killed_parent_at_once(tmp_path: Path) -> None:
    for _ in range(2):
        with parent_running(PARENT, tmp_path) as parent:
            parent.wait_until_ready()
            parent.process.kill()


async def test_a_canceled_start_leaves_no_process_behind(tmp_path: Path) -> None:
    family = Family(mark="none", folder=tmp_path)
    server = EmbeddedPostgres(data_dir=tmp_path / "postgres", durable=False)
    start = asyncio.create_task(server.start())
    assert await eventually_async(lambda: family.has_reached("postgres"))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert family.names() == set()


# Processes


async def test_a_program_that_dies_early_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import sys; print('old news\\n' * 50); print('the cause'); sys.exit(3)"
    process = await ManagedProcess.start(program_of(script, tmp_path))
    async with process:
        with pytest.raises(EmbeddedServerError) as caught:
            await process.wait_until_ready(process.log_matches("^ready$"), timeout=timedelta(seconds=BOUND_SECONDS))
    text = str(caught.value)
    assert text.startswith("the program ended with exit status 3. The end of ")
    assert text.endswith("    the cause")
    assert len(text.splitlines()) < 30


async def test_a_program_killed_by_a_signal_is_told_apart(tmp_path: Path) -> None:
    script = "import os; os.kill(os.getpid(), 11)"
    async with await ManagedProcess.start(program_of(script, tmp_path)) as process:
        assert await process.wait() == -11
        with pytest.raises(EmbeddedServerError, match="ended with signal SIGSEGV"):
            process.raise_if_ended()


async def test_a_program_that_never_gets_ready_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import time; print('still thinking', flush=True); time.sleep(3600)"
    async with await ManagedProcess.start(program_of(script, tmp_path)) as process:
        assert await eventually_async(lambda: "thinking" in process.log_text())
        with pytest.raises(EmbeddedServerError, match=r"not ready within 0 s(.|\n)*still thinking"):
            await process.wait_until_ready(process.log_matches("^ready$"), timeout=timedelta(0))


async def test_only_what_was_logged_since_this_start_counts_as_ready(tmp_path: Path) -> None:
    async with await ManagedProcess.start(program_of("print('ready')", tmp_path)) as first:
        await first.wait()
    async with await ManagedProcess.start(program_of("import time; time.sleep(3600)", tmp_path)) as second:
        assert not await second.log_matches("^ready$")()


async def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    program = Program(name="ghost", argv=["/nowhere/ghost"], log_file=tmp_path / "log")
    with pytest.raises(EmbeddedServerError, match=r"ghost could not be started: .*No such file"):
        await ManagedProcess.start(program)


async def test_a_program_deaf_to_the_stop_signal_is_killed(tmp_path: Path) -> None:
    script = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(3600)
    """
    program = Program(
        name="deaf",
        argv=[sys.executable, "-c", textwrap.dedent(script)],
        log_file=tmp_path / "log",
        stop_timeout=timedelta(seconds=0.2),
    )
    process = await ManagedProcess.start(program)
    await process.wait_until_ready(process.log_matches("deaf"), timeout=timedelta(seconds=BOUND_SECONDS))
    await process.stop()
    await process.stop()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us adopt orphans")
async def test_descendants_that_left_the_session_end_with_the_program(tmp_path: Path) -> None:
    script = """
    import subprocess
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    print(child.pid, flush=True)
    child.wait()
    """
    async with await ManagedProcess.start(program_of(script, tmp_path)) as process:
        await process.wait_until_ready(process.log_matches(r"^\d+$"), timeout=timedelta(seconds=BOUND_SECONDS))
        grandchild = psutil.Process(int(process.log_text()))
        await process.kill()
        assert not grandchild.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child whose parent was killed")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_a_program_ends_with_its_guard(signum: signal.Signals, tmp_path: Path) -> None:
    async with await ManagedProcess.start(program_of("import time; time.sleep(3600)", tmp_path)) as process:
        program = psutil.Process(process.pid)
        guard = program.parent()
        assert guard is not None
        assert "_guard.py" in " ".join(guard.cmdline())
        guard.send_signal(signum)
        assert await eventually_async(lambda: not program.is_running())


def test_a_fork_of_the_parent_that_lives_on_does_not_keep_the_program_alive(tmp_path: Path) -> None:
    script = """
    import asyncio, os, sys, time
    from pathlib import Path
    from overnight.embedded import ManagedProcess, Program

    async def main():
        program = Program(name="sleep", argv=["sleep", "3600"], log_file=Path(sys.argv[1]) / "log")
        await ManagedProcess.start(program)

    asyncio.run(main())
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    print("ready", flush=True)
    time.sleep(3600)
    """
    with parent_running(script, tmp_path) as parent:
        parent.wait_until_ready()
        assert "sleep" in parent.family.names()
        parent.process.kill()
        assert eventually(lambda: "sleep" not in parent.family.names())
        for fork in parent.family.members():
            fork.kill()


async def test_the_ctrl_c_of_a_terminal_reaches_neither_a_program_nor_its_guard(tmp_path: Path) -> None:
    async with await ManagedProcess.start(program_of("import time; time.sleep(3600)", tmp_path)) as process:
        guard = psutil.Process(process.pid).ppid()
        assert len({os.getsid(0), os.getsid(guard), os.getsid(process.pid)}) == 3


async def test_a_process_can_be_stopped_from_another_event_loop(tmp_path: Path) -> None:
    program = program_of("import time; time.sleep(3600)", tmp_path)
    process = await asyncio.to_thread(lambda: asyncio.run(ManagedProcess.start(program)))
    await process.stop()
    assert process.returncode == -signal.SIGTERM


async def test_work_that_must_finish_finishes_before_a_cancellation_goes_on() -> None:
    let_go, steps = asyncio.Event(), []

    async def work() -> None:
        await let_go.wait()
        steps.append("finished")

    task = asyncio.create_task(finish(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["finished"]


# Ports


async def test_a_leased_port_can_be_served_and_is_given_to_nobody_else() -> None:
    with PortLease() as lease:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", lease.port))
        lease.let_server_bind()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", lease.port)
        async with server:
            assert await tcp_accepts(lease.port)()
            with pytest.raises(EmbeddedServerError, match=f"Port {lease.port} on 127.0.0.1 is taken"):
                PortLease(lease.port)


async def test_nothing_is_ready_on_a_leased_port_without_a_server() -> None:
    with PortLease() as lease:
        assert not await tcp_accepts(lease.port)()
