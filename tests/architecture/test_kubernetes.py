"""What can be known of `deploy/kubernetes` without a cluster: what it renders to, and whether the API would take it."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from overnight.cli.app import app
from overnight.contracts import bulk_task_queue
from overnight.handling import process
from tests.architecture.sources import ROOT
from tests.architecture.test_compose import known_variables

FOLDER = ROOT / "deploy" / "kubernetes"
CONSOLE = ROOT / "overnight" / "console"
WORKLOADS = {"Deployment", "Job"}
VERSIONS = ["1.29.0", kubernetes_validate.latest_version()]


def files() -> list[Path]:
    return [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name != "kustomization.yaml"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


ALL = [document for path in files() for document in documents(path)]
KINDS = [document for document in ALL if not document["apiVersion"].startswith("keda.sh/")]
SCALED = [document for document in ALL if document["kind"] == "ScaledObject"]
[GENERATED] = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["configMapGenerator"]
CONFIG = dict(literal.split("=", 1) for literal in GENERATED["literals"])
PODS = {document["metadata"]["name"]: document["spec"]["template"] for document in ALL if document["kind"] in WORKLOADS}


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def variables(name: str) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(name).get("env", [])}


# Both parts of the worker are one kind of process: one login, the same keys.
SECRET_OF = {name: name for name in PODS if name != "overnight-temporal-setup"} | {"overnight-bulk": "overnight-worker"}
POLLING = {"overnight-worker", "overnight-bulk", "overnight-handlers"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", KINDS, ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_the_api_would_take_it(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_validation_notices_a_key_that_there_is_not() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**KINDS[0], "speck": {}}, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", ["base", "autoscaling", "ui"])
def test_kustomize_renders_it(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed here")
    done = subprocess.run([kubectl, "kustomize", FOLDER / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = [document for document in yaml.safe_load_all(done.stdout) if document]

    for document in rendered:
        if not document["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    deployments = [document for document in rendered if document["kind"] == "Deployment"]
    assert len(deployments) == {"base": 3, "autoscaling": 3, "ui": 4}[folder]
    assert all(("replicas" in document["spec"]) == (folder != "autoscaling") for document in deployments)
    [settings] = [document for document in rendered if document["kind"] == "ConfigMap"]
    for document in deployments:
        [only] = document["spec"]["template"]["spec"]["containers"]
        named = [{"configMapRef": {"name": settings["metadata"]["name"]}}]
        assert only.get("envFrom", []) == (named if document["metadata"]["name"] in POLLING else [])
        assert ":" in only["image"]
        assert not only["image"].endswith(":latest")


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_write_nothing_and_may_do_nothing_special(name: str) -> None:
    pod, only = PODS[name]["spec"], container(name)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(only["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize("name", SECRET_OF)
def test_secrets_are_files_that_overnight_reads_and_nothing_else_is_secret(name: str) -> None:
    [mount] = [it for it in container(name)["volumeMounts"] if it["name"] == "secrets"]

    assert {variable.removesuffix("_FILE") for variable in variables(name)} <= known_variables()
    assert all(variable.endswith("_FILE") for variable in variables(name))
    assert all(path.startswith(f"{mount['mountPath']}/") for path in variables(name).values())
    [volume] = [it for it in PODS[name]["spec"]["volumes"] if it["name"] == "secrets"]
    assert volume["secret"]["secretName"] == SECRET_OF[name]


def test_every_secret_is_made_in_the_instructions_with_the_files_that_are_read() -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / "docs" / "operations" / "deploy.md").read_text())
    made = {
        name: set(re.findall(r"--from-file=([\w-]+)", files))
        for name, files in re.findall(r"create secret generic ([\w-]+) (.*)", text)
    }

    assert set(made) == set(SECRET_OF.values())
    for name, secret in SECRET_OF.items():
        assert {Path(path).name for path in variables(name).values()} <= made[secret]


def test_only_the_worker_has_the_providers_keys() -> None:
    having = {name for name in PODS if any("API_KEY" in variable for variable in variables(name))}

    assert having == {"overnight-worker", "overnight-bulk"}


@pytest.mark.parametrize("name", PODS)
def test_it_runs_a_command_that_there_is(name: str) -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.name for group in app.registered_groups}

    assert container(name)["args"][0] in commands | groups


def test_a_probe_asks_for_the_task_queue_that_is_worked_at() -> None:
    args = container("overnight-handlers")["args"]
    task_queue = args[args.index("--task-queue") + 1]
    scaled = {it["metadata"]["name"]: it["spec"]["triggers"][0]["metadata"]["taskQueue"] for it in SCALED}

    assert container("overnight-handlers")["readinessProbe"]["exec"]["command"][-2:] == ["--handlers", task_queue]
    for name, part in (("overnight-worker", "batches"), ("overnight-bulk", "bulk")):
        assert container(name)["args"] == ["worker", "--only", part]
        assert container(name)["readinessProbe"]["exec"]["command"][-2:] == ["--only", part]
    assert scaled == {
        "overnight-worker": CONFIG["OVERNIGHT_TASK_QUEUE"],
        "overnight-bulk": bulk_task_queue(CONFIG["OVERNIGHT_TASK_QUEUE"]),
        "overnight-handlers": task_queue,
    }


def test_a_backlog_is_as_much_as_a_process_works_at_at_once() -> None:
    sizes = {it["metadata"]["name"]: int(it["spec"]["triggers"][0]["metadata"]["targetQueueSize"]) for it in SCALED}

    assert sizes == {
        "overnight-worker": process.SHORT_AT_ONCE,
        "overnight-bulk": process.BULK_AT_ONCE,
        "overnight-handlers": process.HANDLERS_AT_ONCE,
    }


def test_metrics_are_served_where_prometheus_looks_and_may_ask() -> None:
    port = int(CONFIG["OVERNIGHT_METRICS_ADDRESS"].rpartition(":")[2])
    [opened] = [rule["ports"] for it in ALL if it["kind"] == "NetworkPolicy" for rule in it["spec"].get("ingress", [])]

    assert opened == [{"protocol": "TCP", "port": port}]
    for name in POLLING:
        assert PODS[name]["metadata"]["annotations"]["prometheus.io/port"] == str(port)
        assert {"name": "metrics", "containerPort": port} in container(name)["ports"]


def test_the_console_is_asked_by_a_name_that_it_answers_to() -> None:
    only = container("overnight-ui")
    [host] = only["readinessProbe"]["httpGet"]["httpHeaders"]

    assert host["value"] in [word for before, word in pairwise(only["args"]) if before == "--name"]
    assert (CONSOLE / only["readinessProbe"]["httpGet"]["path"].removeprefix("/")).is_file()


def test_whatever_is_scaled_or_protected_exists() -> None:
    deployments = {it["metadata"]["name"]: it for it in ALL if it["kind"] == "Deployment"}
    budgets = {it["metadata"]["name"]: it for it in ALL if it["kind"] == "PodDisruptionBudget"}

    assert (
        {it["spec"]["scaleTargetRef"]["name"] for it in SCALED} == set(deployments) - {"overnight-ui"} == set(budgets)
    )
    for name, budget in budgets.items():
        wanted = budget["spec"]["selector"]["matchLabels"]
        assert deployments[name]["spec"]["selector"]["matchLabels"] == wanted
        assert wanted.items() <= PODS[name]["metadata"]["labels"].items()
        # A budget that lets nobody go would block every drain of a node.
        assert deployments[name]["spec"]["replicas"] > budget["spec"]["maxUnavailable"]
