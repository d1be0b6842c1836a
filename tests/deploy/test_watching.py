"""Alarms and dashboard ask for metrics and labels that exist; each alarm is in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "alerts.yml"
CASES = Path(__file__).with_name("alerts_test.yml")
LABELS = {name: set(metric.labels) for metric in METRICS for name in metric.series}
USUAL = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "ALERTS"}
"""What Prometheus and its library have by themselves."""
OF_THE_TARGET = {"job", "instance", "le", "alertname", "alertstate"}

_METRIC = re.compile(r"\b(signspool_[a-z_]+|up|ALERTS|process_[a-z_]+)\b(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """The query of each panel of the dashboard, with its title."""
    dashboard = json.loads((ROOT / "deploy" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for item in dashboard["annotations"]["list"]:
        yield item["name"], item["expr"]


def faults(query: str) -> list[str]:
    """What a query asks for that is not there: metrics, labels to choose by, labels to group by."""
    named = [(match[1], match[2] or "") for match in _METRIC.finditer(query)]
    wrong = [name for name, _ in named if name not in LABELS and name not in USUAL]
    known = OF_THE_TARGET.union(*(LABELS.get(name, set()) for name, _ in named))
    for name, matchers in named:
        chosen = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        wrong += [f"{name}: {label}" for label in chosen - LABELS.get(name, set()) - OF_THE_TARGET]
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        wrong += [f"by {label}" for label in map(str.strip, grouped.split(",")) if label not in known]
    if not named:
        wrong.append("no metric at all")
    return wrong


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_asks_for_what_exists_and_says_what_it_means(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


@pytest.mark.parametrize(("title", "query"), list(queries()), ids=str)
def test_a_panel_asks_for_what_exists(title: str, query: str) -> None:
    assert faults(query) == []


def test_a_query_for_what_is_not_there_is_found() -> None:
    """The finder of faults finds them."""
    assert faults("signspool_spool_entires") == ["signspool_spool_entires"]
    assert faults('signspool_spool_entries{provider="x"}') == ["signspool_spool_entries: provider"]
    assert faults("sum by (provider) (signspool_spool_entries)") == ["by provider"]
    assert faults("1 > 0") == ["no metric at all"]


def test_every_alarm_has_its_part_of_the_runbook_and_no_part_is_left_over() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^### (Signspool\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert sorted(parts) == sorted(rule["alert"] for rule in rules())
    assert [
        name for name, text in parts.items() if "\n* Look: " not in text or "\n* Type: " not in text
    ] == []


def test_every_metric_is_looked_at_by_an_alarm_or_a_panel() -> None:
    """What nobody looks at need not be counted."""
    asked = " ".join([rule["expr"] for rule in rules()] + [query for _, query in queries()])
    assert [metric.name for metric in METRICS if metric.name not in asked] == []


def test_the_rules_fire_when_they_should_and_not_when_they_should_not() -> None:
    """By Prometheus' own tool, which also checks their form."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not there: apt-get install prometheus")
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(CASES)]):
        done = subprocess.run([promtool, *command], check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
