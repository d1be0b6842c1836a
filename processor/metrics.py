"""What the daemon counts while it works.

A part of the daemon gets the one method that it needs, as a plain function. Gauges that are read off
something at a scrape stand in `processor.private`.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.registry import Collector

from processor.recording import Recorded
from processor.silence import Of
from shared.db.models import Task
from shared.events import DocumentStatus, Outcome
from shared.metrics import catalogue
from shared.metrics.catalogue import Metric
from shared.metrics.families import registry

Labels = TypeVar("Labels", bound=tuple[str, ...])

_NOTHING: Mapping[Any, Any] = MappingProxyType({})

ENDINGS = ("done", "retry", "waiting", "held", "failed", "given_back", "lease_lost", "cut_off")
"""How an attempt at something owed ends: see docs/walk.md; `given_back` is for lack of our own means,
`cut_off` by our own end."""

_TASKS = {
    "provider": (Task.FETCH, Task.CONFIRM),
    "destination": (Task.DELIVER, Task.ADVANCE),
    "mirror": (Task.MIRROR,),
}
"""What is owed in a lane, by how its name begins."""


class ProcessorMetrics:
    """Counters and times; safe to use from several threads.

    Every series that can be is there from the start with a zero, so that its first step can be seen.
    """

    def __init__(self, providers: Iterable[str], lanes: Iterable[str]) -> None:
        # A second series for each one, with when it was made, that nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry()
        self._events = self._counter(catalogue.EVENTS)
        self._changes = self._counter(catalogue.STATUS_CHANGES)
        self._attempts = self._counter(catalogue.ATTEMPTS)
        self._attempt_times = self._histogram(catalogue.ATTEMPT_DURATION)
        self._request_times = self._histogram(catalogue.REQUEST_DURATION)
        self._database_times = self._histogram(catalogue.DATABASE_DURATION)
        self._standby = self._gauge(catalogue.STANDBY)
        self._last_pass = self._gauge(catalogue.LAST_PASS)
        self._last_sweep = self._gauge(catalogue.LAST_SWEEP)
        self._poll_success = self._gauge(catalogue.POLL_LAST_SUCCESS)
        self._poll_budget = self._gauge(catalogue.POLL_BUDGET)
        self._poll_spent = self._gauge(catalogue.POLL_SPENT)
        self._poll_needed = self._gauge(catalogue.POLL_NEEDED)
        self._silence_limits = _Replaced(self._gauge(catalogue.SILENCE_LIMIT))
        self._expiry = _Replaced(self._gauge(catalogue.EXPIRY))
        self.is_standby = False
        """Whether another processor works on the spool, and this one waits."""
        self.passed_at = self.swept_at = time.monotonic()
        """When the last pass and the last sweep succeeded, the start until there is one."""
        self._polled: frozenset[str] = frozenset()
        self.follow(providers=providers, lanes=lanes)
        for mode in ("read", "write"):
            self._database_times.labels(mode)

    def follow(
        self,
        *,
        providers: Iterable[str],
        lanes: Iterable[str],
        polled: Collection[str] = (),
        silence_limits: Mapping[tuple[str, Of], float] = _NOTHING,
        ends: Mapping[tuple[str, str], datetime] = _NOTHING,
    ) -> None:
        """These are in the settings from now on; what was counted of others stays.

        One that is `polled` from now on counts as having answered, so that one which never answers is missed
        in its time; of one that is not polled any more nothing is expected. `silence_limits` are as
        `processor.silence` gives them, `ends` as `processor.expiry.first_ends` does.
        """
        for provider in providers:
            for outcome in Outcome:
                self._events.labels(provider, outcome)
            for status in DocumentStatus:
                self._changes.labels(provider, status)
        for lane in lanes:
            for task in _TASKS[lane.partition(":")[0]]:
                self._attempt_times.labels(lane, task)
                for ending in ENDINGS:
                    self._attempts.labels(lane, task, ending)
        now_polled = frozenset(polled)
        for provider in now_polled - self._polled:
            self.polled(provider)
        for provider in self._polled - now_polled:
            for gauge in (self._poll_success, self._poll_budget, self._poll_spent, self._poll_needed):
                gauge.remove_by_labels({"provider": provider})
        self._polled = now_polled
        self._silence_limits.set(silence_limits)
        self._expiry.set({key: at.timestamp() for key, at in ends.items()})

    def add(self, collector: Collector) -> None:
        """Have something asked at each scrape for figures of its own."""
        self.registry.register(collector)

    # Recording

    def recorded(self, entries: Iterable[tuple[str, Recorded]]) -> None:
        """A batch of entries is recorded: the provider of each, and what became of it."""
        outcomes: Tally[tuple[str, Outcome]] = Tally()
        changes: Tally[tuple[str, DocumentStatus]] = Tally()
        for provider, recorded in entries:
            if recorded.was_known:
                continue  # Moved back by hand: it says nothing new.
            outcomes.update((provider, outcome) for outcome in recorded.outcomes)
            changes.update((provider, status) for status in recorded.changes)
        for labels, count in outcomes.items():
            self._events.labels(*labels).inc(count)
        for changed, count in changes.items():
            self._changes.labels(*changed).inc(count)

    def passed(self) -> None:
        """A pass over the spool succeeded."""
        self.passed_at = time.monotonic()
        self._last_pass.set_to_current_time()

    def swept(self) -> None:
        """A sweep succeeded."""
        self.swept_at = time.monotonic()
        self._last_sweep.set_to_current_time()

    def stands_by(self, is_standby: bool) -> None:
        """Whether another processor works on the spool, and this one waits."""
        self.is_standby = is_standby
        self._standby.set(is_standby)
        self.passed_at = self.swept_at = time.monotonic()

    # What is owed, and the calls that it takes

    def attempted(self, lane: str, task: Task, ending: str) -> None:
        """An attempt has ended, in one of `ENDINGS`."""
        self._attempts.labels(lane, task, ending).inc()

    def worked(self, lane: str, task: Task, seconds: float) -> None:
        """The work of one attempt took so long."""
        self._attempt_times.labels(lane, task).observe(seconds)

    def requested(self, lane: str, code: str, seconds: float) -> None:
        """A request to a peer took so long; `code` is as `Outside` says it."""
        self._request_times.labels(lane, code).observe(seconds)

    def transacted(self, mode: str, seconds: float) -> None:
        """A transaction took so long."""
        self._database_times.labels(mode).observe(seconds)

    # Polling

    def polled(self, provider: str) -> None:
        """A provider that is polled has answered."""
        self._poll_success.labels(provider).set_to_current_time()

    def budgeted(self, provider: str, *, needed: float, budget: float | None, spent: float) -> None:
        """What polling a provider takes, all in requests of its present window.

        Asking about every open document as often as is wished would take `needed`; the provider allows the
        `budget`, None when it sets no limit, of which so much is spent.
        """
        self._poll_needed.labels(provider).set(needed)
        self._poll_spent.labels(provider).set(spent)
        if budget is not None:
            self._poll_budget.labels(provider).set(budget)
        else:
            self._poll_budget.remove_by_labels({"provider": provider})

    # Making

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(
            metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry
        )


class _Replaced:
    """A gauge whose series are those that were set last."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[tuple[str, ...]] = set()

    def set(self, values: Mapping[Labels, float]) -> None:
        """Show these values, by the values of the labels, and no others."""
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        for gone in self._shown - set(values):
            self._gauge.remove(*gone)
        self._shown = set(values)
