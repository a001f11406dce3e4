"""What can be known of `deploy/kubernetes` without a cluster: what it renders to, and whether the API would take it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from overnight.cli.app import app
from overnight.settings import Settings
from tests.architecture.sources import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
WORKLOADS = {"Deployment", "Job"}
VERSIONS = ["1.29.0", kubernetes_validate.latest_version()]


def files() -> list[Path]:
    return [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name != "kustomization.yaml"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


ALL = [document for path in files() for document in documents(path)]
KINDS = [document for document in ALL if not document["apiVersion"].startswith("keda.sh/")]
SCALED = [document for document in ALL if document["kind"] == "ScaledObject"]
PODS = {document["metadata"]["name"]: document["spec"]["template"] for document in ALL if document["kind"] in WORKLOADS}


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def variables(name: str) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(name)["env"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", KINDS, ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_the_api_would_take_it(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_validation_notices_a_key_that_there_is_not() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**KINDS[0], "speck": {}}, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", ["base", "autoscaling"])
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
    assert len(deployments) == 2
    assert all(("replicas" in document["spec"]) == (folder == "base") for document in deployments)
    [settings] = [document for document in rendered if document["kind"] == "ConfigMap"]
    for document in deployments:
        [only] = document["spec"]["template"]["spec"]["containers"]
        assert only["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
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


@pytest.mark.parametrize("name", PODS)
def test_secrets_are_files_that_overnight_reads_and_nothing_else_is_secret(name: str) -> None:
    [mount] = [it for it in container(name)["volumeMounts"] if it["name"] == "secrets"]
    fields = Settings.model_fields.items()
    known = {str(field.validation_alias or f"OVERNIGHT_{key}").upper() + "_FILE" for key, field in fields}

    assert set(variables(name)) <= known
    assert all(path.startswith(f"{mount['mountPath']}/") for path in variables(name).values())
    [volume] = [it for it in PODS[name]["spec"]["volumes"] if it["name"] == "secrets"]
    assert volume["secret"]["secretName"] == name


def test_only_the_worker_has_the_providers_keys() -> None:
    assert [name for name in PODS if any("API_KEY" in variable for variable in variables(name))] == ["overnight-worker"]


@pytest.mark.parametrize("name", PODS)
def test_it_runs_a_command_that_there_is(name: str) -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.name for group in app.registered_groups}

    assert container(name)["args"][0] in commands | groups


def test_a_probe_asks_for_the_task_queue_that_is_worked_at() -> None:
    args = container("overnight-handlers")["args"]
    task_queue = args[args.index("--task-queue") + 1]

    assert container("overnight-handlers")["readinessProbe"]["exec"]["command"][-2:] == ["--handlers", task_queue]
    assert {it["spec"]["triggers"][0]["metadata"]["taskQueue"] for it in SCALED} == {"overnight", task_queue}


def test_whatever_is_scaled_or_protected_exists() -> None:
    deployments = {it["metadata"]["name"]: it for it in ALL if it["kind"] == "Deployment"}
    budgets = {it["metadata"]["name"]: it for it in ALL if it["kind"] == "PodDisruptionBudget"}

    assert {it["spec"]["scaleTargetRef"]["name"] for it in SCALED} == set(deployments) == set(budgets)
    for name, budget in budgets.items():
        wanted = budget["spec"]["selector"]["matchLabels"]
        assert deployments[name]["spec"]["selector"]["matchLabels"] == wanted
        assert wanted.items() <= PODS[name]["metadata"]["labels"].items()
        # A budget that lets nobody go would block every drain of a node.
        assert deployments[name]["spec"]["replicas"] > budget["spec"]["maxUnavailable"]
