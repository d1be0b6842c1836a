"""Families of the catalogue, made of figures that were counted elsewhere, for a scrape."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from shared.metrics.catalogue import BUILD_INFO, LOOK_AGE, Metric
from shared.metrics.looks import Look

Labels = TypeVar("Labels", bound=tuple[str, ...])


def figures(metric: Metric, values: Mapping[Labels, float]) -> Family:
    """A counter or gauge with one sample for each set of label values."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def figure(metric: Metric, value: float) -> Family:
    """A counter or gauge without labels."""
    return figures(metric, {(): value})


def histogram(metric: Metric, values: Mapping[Labels, tuple[Sequence[float], float]]) -> Family:
    """A histogram; each value is the count within each bucket, the open one last, and the sum."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(repr(bound) for bound in metric.buckets), "+Inf"]
    for labels, (counts, total) in values.items():
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    return family


def build_info(tier: str) -> Family:
    """Which program this is."""
    return figures(BUILD_INFO, {(tier, version("signspool"), platform.python_version()): 1.0})


def look_ages(looks: Iterable[Look[Any]]) -> Family:
    """How old what the looks found is; one that never succeeded is infinitely old."""
    return figures(LOOK_AGE, {(look.name,): look.age_seconds() for look in looks})


def registry(*collectors: Collector) -> CollectorRegistry:
    """A registry with these collectors, and the usual figures of this process."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    for collector in collectors:
        made.register(collector)
    return made
