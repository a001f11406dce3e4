"""What can be known of `deploy/compose.yaml` without a container engine: its README lists what cannot.

`tests/e2e/test_deployment.py` runs what it runs.
"""

import json
import re
import shlex
import shutil
import stat
from pathlib import Path

import promql_parser
import pytest
import yaml

from overnight.cli.codec_server import TOKEN as CODEC_SERVER_TOKEN
from overnight.cli.ui import TEMPORAL_UI
from overnight.cli.ui import TOKEN as UI_TOKEN
from overnight.logs import FORMAT
from overnight.settings import Settings
from overnight.storage.database import create_engine
from tests.architecture.compose import DEPLOY, OURS, SERVICES, compose, run
from tests.architecture.test_observability import FOLDER as OBSERVABILITY
from tests.architecture.test_observability import RULES

WORKERS = {"worker", "bulk-worker"}
JOBS = {name for name, service in SERVICES.items() if service["restart"].startswith("on-failure")}
LOGINS = {"migrations", "worker", "client", "reader"}

_SERVICE_KEYS = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image"),
    *("init", "logging", "networks", "ports", "read_only", "restart", "secrets", "security_opt", "shm_size"),
    *("stop_grace_period", "tmpfs", "user", "volumes"),
}
_CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::[-?][^}]*)?\}")


def known_variables() -> set[str]:
    """What overnight reads from its environment, and Temporal's own for the connection."""
    fields = Settings.model_fields.items()
    own = {str(field.validation_alias) if field.validation_alias else f"OVERNIGHT_{name}" for name, field in fields}
    known = {name.upper() for name in own} | {FORMAT, UI_TOKEN, TEMPORAL_UI, CODEC_SERVER_TOKEN}
    return known | {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}


def examples() -> set[str]:
    """The variables in .env.example, which are commented out."""
    return set(re.findall(r"^#([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))


def test_docker_compose_takes_it() -> None:
    docker = shutil.which("docker")
    if docker is None or run(docker, "compose", "version").returncode:
        pytest.skip("docker's compose plugin is not installed here")
    done = run(docker, "compose", "--file", DEPLOY / "compose.yaml", "config", "--quiet")

    assert done.returncode == 0, done.stderr


def test_compose_has_only_keys_that_the_compose_specification_has() -> None:
    file = compose()

    assert {key for key in file if not key.startswith("x-")} == {"name", "services", "networks", "secrets", "volumes"}
    assert {key for service in SERVICES.values() for key in service} <= _SERVICE_KEYS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_what_exists_and_can_come_to_be(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        target = SERVICES[other]
        assert wanted["condition"] in _CONDITIONS
        if wanted["condition"] == "service_healthy":
            assert "test" in target["healthcheck"]
        if wanted["condition"] == "service_completed_successfully":
            assert other in JOBS


def test_every_job_is_waited_for_by_somebody() -> None:
    """`docker compose up --wait` takes the end of any other container for a failure (docker/compose issue 10596)."""
    conditions = [wanted for service in SERVICES.values() for wanted in service.get("depends_on", {}).items()]

    assert {name for name, wanted in conditions if wanted["condition"] == "service_completed_successfully"} == JOBS


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_networks_volumes_secrets_and_files_exist(name: str) -> None:
    file, service = compose(), SERVICES[name]
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]

    assert set(service["networks"]) <= set(file["networks"])
    assert set(service.get("secrets", [])) <= set(file["secrets"])
    assert {source for source in sources if not source.startswith(".")} <= set(file["volumes"])
    assert [source for source in sources if source.startswith(".") and not (DEPLOY / source).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_tag_and_no_foreign_one_is_the_latest(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")

    assert tag
    assert name in OURS or re.fullmatch(r"v?[0-9.]+", tag)


@pytest.mark.parametrize("name", SERVICES)
def test_a_published_port_is_bound_to_loopback(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_write_nothing_but_its_data_and_may_do_nothing_special(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is (name != "temporal-ui")  # README.md says why not
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "postgres" or int(service["user"].split(":")[0]) > 0
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []) if volume.startswith("."))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_that_goes_wild_is_stopped_and_its_log_fills_no_disk(name: str) -> None:
    service = SERVICES[name]

    assert set(service["deploy"]["resources"]["limits"]) == {"memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS - {"temporal-ui"}))
def test_what_stays_is_started_again_and_asked_how_it_is(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "test" in SERVICES[name]["healthcheck"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_all_of_ours_is_one_image(name: str) -> None:
    service = SERVICES[name]

    assert service["image"] == "overnight:${OVERNIGHT_VERSION:-latest}"
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_get_only_variables_that_overnight_reads(name: str) -> None:
    assert {variable.removesuffix("_FILE") for variable in SERVICES[name]["environment"]} <= known_variables()


def test_the_batches_database_and_temporals_are_two_and_temporals_is_seen_by_temporal_alone() -> None:
    seeing = {name for name, service in SERVICES.items() if "temporal-database" in service["networks"]}

    assert seeing == {"temporal-postgres", "temporal-schema", "temporal"}
    assert compose()["networks"]["temporal-database"] == {"internal": True}


def test_the_database_has_room_for_every_process_and_two_clients() -> None:
    settings = " ".join(SERVICES["postgres"]["command"])
    [allowed] = re.findall(r"max_connections=(\d+)", settings)
    pool = create_engine("postgresql+psycopg://nobody@localhost/nothing").pool
    of_a_process = pool.size() + pool._max_overflow  # type: ignore[attr-defined]
    processes = sum(SERVICES[name]["deploy"].get("replicas", 1) for name in WORKERS | {"ui"}) + 2

    assert processes * of_a_process <= int(allowed)


def test_each_part_has_two_workers_whose_health_is_that_parts() -> None:
    for name in WORKERS:
        service = SERVICES[name]
        assert service["command"][-2:] == service["healthcheck"]["test"][-2:]
        assert service["deploy"]["replicas"] == 2
    assert {SERVICES[name]["command"][-1] for name in WORKERS} == {"batches", "bulk"}
    assert SERVICES["worker"]["environment"] == SERVICES["bulk-worker"]["environment"]


# Secrets.


def test_no_secret_is_in_a_variable() -> None:
    variables = {name: value for service in SERVICES.values() for name, value in service.get("environment", {}).items()}
    secret = {name for name in variables if re.search("PASSWORD|PWD|KEY|TOKEN|DATABASE_URL", name)}

    assert len(secret) == 7
    assert all(name.endswith("_FILE") and variables[name].startswith("/run/secrets/") for name in secret)


@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_that_is_read_is_one_that_is_mounted(name: str) -> None:
    service = SERVICES[name]
    places = [*service.get("environment", {}).values(), *service.get("entrypoint", [])]
    read = {place.removeprefix("/run/secrets/") for place in places if str(place).startswith("/run/secrets/")}

    assert read == set(service.get("secrets", [])) or name == "logins"


def test_each_process_has_a_login_of_its_own_and_only_workers_have_keys() -> None:
    holders = {name: set(service.get("secrets", [])) for name, service in SERVICES.items()}
    urls = {name: {secret for secret in held if secret.endswith("-url")} for name, held in holders.items()}

    assert urls["migrate"] == {"migrations-database-url"}
    assert urls["worker"] == urls["bulk-worker"] == {"worker-database-url"}
    assert urls["ui"] == {"reader-database-url"}
    assert {name for name in urls if "admin-database-url" in urls[name]} == {"roles", "grants"}
    assert {name for name, held in holders.items() if "openai-api-key" in held} == WORKERS
    assert {name for name, held in holders.items() if "anthropic-api-key" in held} == WORKERS


def test_secrets_are_made_once_each_for_whom_it_is_for(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first, second = (run("/bin/sh", DEPLOY / "secrets.sh", folder, POSTGRES_PORT="6543") for _ in range(2))
    made = {path.name: path.read_text() for path in folder.iterdir()}
    passwords = [url.split(":")[2].split("@")[0] for name, url in sorted(made.items()) if name.endswith("-url")]

    assert (first.returncode, second.returncode, second.stdout) == (0, 0, ""), first.stderr + second.stderr
    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in compose()["secrets"].values()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert len(set(passwords)) == len(LOGINS) + 1
    assert all(len(password) == 48 for password in passwords)
    assert made["postgres-password"] in made["admin-database-url"]
    assert made["client-database-url"].endswith("@127.0.0.1:6543/overnight")
    assert made["openai-api-key"] == made["anthropic-api-key"] == ""


def test_a_secret_is_put_into_the_environment_of_one_command(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("it's $one\n")
    script = DEPLOY / "temporal" / "secret.sh"
    done = run("/bin/sh", script, "PASSWORD", tmp_path / "secret", "/bin/sh", "-c", 'printf %s "$PASSWORD" "$0"', "!")
    failed = run("/bin/sh", script, "PASSWORD", tmp_path / "absent", "/bin/sh", "-c", "echo started")

    assert (done.returncode, done.stdout) == (0, "it's $one!")
    assert failed.returncode != 0
    assert failed.stdout == ""


def test_every_variable_is_in_the_example_and_in_the_readme() -> None:
    used = set(_VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))
    passed = {name for name, value in SERVICES["worker"]["environment"].items() if value is None}
    explained = set(re.findall(r"`([A-Z_]+)`", (DEPLOY / "README.md").read_text()))

    assert examples() == used | passed
    assert used | passed <= explained


def test_every_service_and_every_secret_is_in_the_readme() -> None:
    explained = set(re.findall(r"`([a-z-]+)`", (DEPLOY / "README.md").read_text()))

    assert set(SERVICES) <= explained
    assert set(compose()["secrets"]) <= explained


# Prometheus and Grafana.


def test_prometheus_scrapes_the_workers_where_they_serve_and_nobody_else_can() -> None:
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yaml").read_text())
    [job] = config["scrape_configs"]
    [found] = job["dns_sd_configs"]

    assert set(found["names"]) == WORKERS
    assert found["type"] == "A"
    for name in WORKERS:
        assert SERVICES[name]["environment"]["OVERNIGHT_METRICS_ADDRESS"] == f"0.0.0.0:{found['port']}"
        assert "ports" not in SERVICES[name]
        assert "monitoring" in SERVICES[name]["networks"]
    assert SERVICES["prometheus"]["networks"] == ["monitoring"]


def test_prometheus_reads_the_rules_beside_its_configuration() -> None:
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yaml").read_text())
    [mounted] = [it for it in SERVICES["prometheus"]["volumes"] if it.startswith(".")]
    source, target, _ = mounted.split(":")

    assert f"--config.file={target}/prometheus.yaml" in SERVICES["prometheus"]["command"]
    assert (DEPLOY / source).resolve() == OBSERVABILITY
    assert [(OBSERVABILITY / name).exists() for name in config["rule_files"]] == [True]
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        promql_parser.parse(rule["expr"])


def test_grafana_finds_prometheus_and_the_dashboard_and_lets_nobody_in_without_a_password() -> None:
    service = SERVICES["grafana"]
    places = {target: source for source, target, *_ in (it.split(":") for it in service["volumes"])}
    [datasource] = yaml.safe_load((OBSERVABILITY / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((OBSERVABILITY / "grafana/dashboards/overnight.yaml").read_text())["providers"]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    dashboard = json.loads((DEPLOY / places[str(home)]).read_text())

    assert datasource["url"] == "http://prometheus:9090"
    assert datasource["isDefault"] is True
    assert {variable["query"] for variable in dashboard["templating"]["list"]} == {datasource["type"]}
    assert Path(provider["options"]["path"]) == home.parent
    assert {"/etc/grafana/provisioning/datasources", "/etc/grafana/provisioning/dashboards"} <= set(places)
    assert service["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana-admin-password"


# Temporal's own set-up.


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
