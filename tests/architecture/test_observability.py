"""Alert rules, dashboard and runbook agree with each other and with what a worker exports."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml

from overnight import metrics
from overnight.metrics import Metric
from tests.architecture.sources import ROOT

FOLDER = ROOT / "deploy" / "observability"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
PANELS = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()

# Grafana puts durations in place of these.
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"].replace("$__rate_interval", "5m") for panel in PANELS for target in panel["targets"]
]


def metric_names(node: object) -> Iterator[str]:
    """Every metric that a parsed expression selects."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name or ""
    for attribute in ("expr", "lhs", "rhs", "param", "vector_selector"):
        if (child := getattr(node, attribute, None)) is not None:
            yield from metric_names(child)
    for child in getattr(node, "args", None) or ():
        yield from metric_names(child)


def used() -> set[str]:
    """Every metric that a rule or a panel uses."""
    return {name for expression in EXPRESSIONS for name in metric_names(promql_parser.parse(expression))}


def declared() -> set[str]:
    return {value.name for value in vars(metrics).values() if isinstance(value, Metric)}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_parses_and_selects_something(expression: str) -> None:
    assert list(metric_names(promql_parser.parse(expression)))


def test_rules_and_dashboard_use_all_metrics_of_ours_and_no_other_of_that_name() -> None:
    ours = {name.removesuffix("_total") for name in used() if name.startswith("overnight_")}

    assert ours == declared()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_its_section_in_the_runbook(rule: dict) -> None:
    _, _, section = RUNBOOK.partition(f"\n## {rule['alert']}\n")
    section = section.partition("\n## ")[0]

    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert all(f"**{part}" in section for part in ("Means:", "Look:", "Do"))


def test_the_runbook_names_only_alerts_and_commands_that_exist() -> None:
    from overnight.cli.app import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        grouped = group.typer_instance.registered_commands
        commands |= {group.name} if group.name else {c.name or c.callback.__name__ for c in grouped}

    assert set(re.findall(r"^## (Overnight\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in RULES}
    assert set(re.findall(r"(?:`|^)overnight ([a-z-]+)", RUNBOOK, re.MULTILINE)) <= commands
