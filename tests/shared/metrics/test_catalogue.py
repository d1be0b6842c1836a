"""Every metric is named as Prometheus wants it, and stands on the page."""

from __future__ import annotations

import re

import pytest

from shared.metrics.catalogue import METRICS, PAGE, Metric, render

FEW = {
    "tier",
    "version",
    "python",
    "look",
    "provider",
    "outcome",
    "folder",
    "status",
    "lane",
    "task",
    "state",
    "code",
    "mode",
    "peer",
    "kind",
}
"""Labels whose values are known from the settings or the program; one more needs a thought about how many."""


def test_the_page_is_what_the_code_says() -> None:
    """Renew it with `python -m shared.metrics.catalogue`."""
    assert PAGE.read_text(encoding="utf-8") == render()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_follows_the_conventions(metric: Metric) -> None:
    """Base units, `_total` for counters and for nothing else, a sentence, labels that take few values."""
    assert re.fullmatch(r"signspool_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(milliseconds|ms|minutes|hours|kb|mb|percent)(_|$)", metric.name)
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert set(metric.labels) <= FEW
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_no_name_is_used_twice() -> None:
    names = [name for metric in METRICS for name in metric.series]
    assert len(names) == len(set(names))
