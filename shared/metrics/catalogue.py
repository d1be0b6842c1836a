"""Every metric of both tiers; `python -m shared.metrics.catalogue` renews the page of them.

Names follow Prometheus: base units, `_total` for what only grows. A label takes few values, all of them known
from the settings or from this program; none is ever an id, or anything else that a stranger chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Tier = Literal["door", "processor", "both"]

UNKNOWN = "unknown"
"""The provider of a request that names none, or none that is configured."""

_MILLISECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125)
_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MINUTES = (30.0, 60.0, 300.0, 900.0)

DURABLE_BUCKETS = (*_MILLISECONDS, *_SECONDS, 30.0)
COMMIT_BUCKETS = (*_MILLISECONDS, *_SECONDS)
FILES_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
DATABASE_BUCKETS = (*_MILLISECONDS, *_SECONDS)
REQUEST_BUCKETS = (0.016, 0.064, *_SECONDS, *_MINUTES)
ATTEMPT_BUCKETS = REQUEST_BUCKETS


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of figures. `help` is its sentence in the scrape and on the page."""

    name: str
    kind: Kind
    tier: Tier
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its samples are queried."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{ending}" for ending in ("_bucket", "_sum", "_count"))
        return (self.name,)


BUILD_INFO = Metric(
    "signspool_build_info",
    "gauge",
    "both",
    "Always 1; the labels say which program this is.",
    ("tier", "version", "python"),
)
LOOK_AGE = Metric(
    "signspool_look_age_seconds",
    "gauge",
    "both",
    "Age of the newest look at the disk, the spool or the database that succeeded; what it found is as old.",
    ("look",),
)

# The door

CALLBACKS = Metric(
    "signspool_callbacks_total",
    "counter",
    "door",
    "Callbacks answered, by how: accepted, disconnected, or the name of the problem on docs/door.md.",
    ("provider", "outcome"),
)
RETURNS = Metric(
    "signspool_returns_total",
    "counter",
    "door",
    "Browsers that came back from a provider's pages, by how: accepted when that is safe on disk, or the "
    "name of the problem on docs/door.md; with unusable_body there was nothing to ask about.",
    ("provider", "outcome"),
)
CALLBACK_DURABLE = Metric(
    "signspool_callback_durable_seconds",
    "histogram",
    "door",
    "Time from the head of an accepted callback until it was safe on disk.",
    ("provider",),
    DURABLE_BUCKETS,
)
CALLBACK_LAST_ACCEPTED = Metric(
    "signspool_callback_last_accepted_timestamp_seconds",
    "gauge",
    "door",
    "When the door accepted the last callback since its start, as Unix time; absent before the first.",
    ("provider",),
)
COMMIT_FILES = Metric(
    "signspool_commit_files",
    "histogram",
    "door",
    "Files that were brought to disk together, sharing their syncs.",
    (),
    FILES_BUCKETS,
)
COMMIT_DURATION = Metric(
    "signspool_commit_duration_seconds",
    "histogram",
    "door",
    "Time that it took to bring one group of files to disk.",
    (),
    COMMIT_BUCKETS,
)
COMMIT_FAILED_FILES = Metric(
    "signspool_commit_failed_files_total", "counter", "door", "Files that could not be brought to disk."
)
DOOR_READY = Metric(
    "signspool_door_ready", "gauge", "door", "1 while a callback could be stored, as /readyz says, else 0."
)
DOOR_WORKERS = Metric(
    "signspool_door_workers",
    "gauge",
    "door",
    "Worker processes whose event loop has turned within 5 seconds.",
)
DOOR_REQUESTS = Metric(
    "signspool_door_requests_in_hand", "gauge", "door", "Callbacks between head and answer, once a second."
)
DOOR_BODY_BYTES = Metric(
    "signspool_door_body_bytes_in_hand", "gauge", "door", "Bytes of their bodies in memory, once a second."
)
FREE_BYTES = Metric("signspool_spool_free_bytes", "gauge", "door", "Bytes free on the spool's file system.")
MIN_FREE_BYTES = Metric(
    "signspool_spool_min_free_bytes",
    "gauge",
    "door",
    "Free bytes below which the door answers 503, as [spool] min_free says.",
)
FREE_FILES = Metric(
    "signspool_spool_free_files",
    "gauge",
    "door",
    "Files that can still be made on the spool's file system; absent where there is no such limit.",
)

# The processor

SPOOL_ENTRIES = Metric(
    "signspool_spool_entries",
    "gauge",
    "processor",
    "Entries in a folder of the spool; of one above a million, that many at least.",
    ("folder",),
)
SPOOL_OLDEST_AGE = Metric(
    "signspool_spool_oldest_age_seconds",
    "gauge",
    "processor",
    "Time since the oldest entry of a folder arrived; 0 for an empty one.",
    ("folder",),
)
SPOOL_UNSEEN = Metric(
    "signspool_spool_unseen_entries",
    "gauge",
    "processor",
    "Entries of a folder that came after a person last touched .seen in it.",
    ("folder",),
)
SPOOL_UNSEEN_AGE = Metric(
    "signspool_spool_unseen_age_seconds",
    "gauge",
    "processor",
    "Time since the oldest of them came; 0 without any.",
    ("folder",),
)
EVENTS = Metric(
    "signspool_events_total",
    "counter",
    "processor",
    "Events recorded, by what they led to: the outcomes of docs/walk.md.",
    ("provider", "outcome"),
)
STATUS_CHANGES = Metric(
    "signspool_status_changes_total",
    "counter",
    "processor",
    "Changes of a document's status, by the status it came to.",
    ("provider", "status"),
)
LAST_RECEIVED = Metric(
    "signspool_callback_last_received_timestamp_seconds",
    "gauge",
    "processor",
    "When a provider's newest callback was received that is recorded, as Unix time; absent without any.",
    ("provider",),
)
ATTEMPTS = Metric(
    "signspool_delivery_attempts_total",
    "counter",
    "processor",
    "Attempts at something owed, by how they ended.",
    ("lane", "task", "outcome"),
)
ATTEMPT_DURATION = Metric(
    "signspool_delivery_attempt_duration_seconds",
    "histogram",
    "processor",
    "Time of one attempt at something owed, whatever came of it.",
    ("lane", "task"),
    ATTEMPT_BUCKETS,
)
DELIVERIES = Metric(
    "signspool_deliveries",
    "gauge",
    "processor",
    "What is owed in a lane and not done, by state; above 10000, that many at least.",
    ("lane", "state"),
)
OVERDUE = Metric(
    "signspool_delivery_overdue_seconds",
    "gauge",
    "processor",
    "How long the oldest thing owed in a lane has been due without anybody working on it.",
    ("lane",),
)
BREAKER_OPEN = Metric(
    "signspool_breaker_open",
    "gauge",
    "processor",
    "1 while a lane is left alone since too many attempts in a row failed or our key is refused, else 0.",
    ("lane",),
)
REQUEST_DURATION = Metric(
    "signspool_peer_request_duration_seconds",
    "histogram",
    "processor",
    "Time of one HTTP request to a provider or destination, by the first digit of the answer's status, or "
    "why there is none.",
    ("lane", "code"),
    REQUEST_BUCKETS,
)
DATABASE_DURATION = Metric(
    "signspool_database_transaction_duration_seconds",
    "histogram",
    "processor",
    "Time of one transaction from its beginning to its end, by whether it writes.",
    ("mode",),
    DATABASE_BUCKETS,
)
DATABASE_UP = Metric(
    "signspool_database_up", "gauge", "processor", "1 when the last look at the database succeeded, else 0."
)
AVAILABLE = Metric(
    "signspool_processor_available",
    "gauge",
    "processor",
    "0 while some part of the processor lacks spool or database, else 1.",
)
STANDBY = Metric(
    "signspool_processor_standby",
    "gauge",
    "processor",
    "1 while another processor works on the same spool and this one waits, else 0.",
)
LAST_PASS = Metric(
    "signspool_processor_last_pass_timestamp_seconds",
    "gauge",
    "processor",
    "When the last pass over the spool succeeded, as Unix time.",
)
LAST_SWEEP = Metric(
    "signspool_processor_last_sweep_timestamp_seconds",
    "gauge",
    "processor",
    "When the last sweep (settling, retention) succeeded, as Unix time.",
)
LATENESS = Metric(
    "signspool_processor_lateness_seconds",
    "gauge",
    "processor",
    "Age of the oldest thing that the processor should have done, as /readyz judges it.",
)
POLL_LAST_SUCCESS = Metric(
    "signspool_poll_last_success_timestamp_seconds",
    "gauge",
    "processor",
    "When a provider that is polled last answered, as Unix time; before that, when the processor started.",
    ("provider",),
)
POLL_UNANSWERED = Metric(
    "signspool_poll_unanswered_seconds",
    "gauge",
    "processor",
    "How long a provider has left unanswered what it is asked; 0 while there is nothing of that.",
    ("provider",),
)
SILENCE_LIMIT = Metric(
    "signspool_silence_limit_seconds",
    "gauge",
    "processor",
    "How long a provider may send no callback, or leave a poll unanswered, as [check] says; absent without a "
    "limit.",
    ("provider", "kind"),
)
EXPIRY = Metric(
    "signspool_expiry_timestamp_seconds",
    "gauge",
    "processor",
    "When the certificate, the authorities or the first secret that the processor uses for a peer end, as "
    "Unix time; absent where no end is known.",
    ("peer", "kind"),
)
POLL_BUDGET = Metric(
    "signspool_poll_budget_requests",
    "gauge",
    "processor",
    "Requests that a provider allows in its present window.",
    ("provider",),
)
POLL_SPENT = Metric(
    "signspool_poll_spent_requests",
    "gauge",
    "processor",
    "Requests of the present window that are used already.",
    ("provider",),
)
POLL_NEEDED = Metric(
    "signspool_poll_needed_requests",
    "gauge",
    "processor",
    "Requests that polling every open document as often as is wished would take in one window.",
    ("provider",),
)

METRICS: tuple[Metric, ...] = tuple(item for item in list(globals().values()) if isinstance(item, Metric))

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

<!-- Made by `python -m shared.metrics.catalogue`; change shared/metrics/catalogue.py, not this file. -->

Each tier serves them for Prometheus at `/metrics` on its private address: `api_port` and `processor_port`
under [`[metrics]`](settings.md#metrics). Without a port there is no such address. It asks for no secret, so
it belongs on loopback or on a network of your own; what it says holds no id, no name of a person and no
secret. `/healthz` and `/readyz` of the tier stand beside it ([what they mean](runbook.md#health)).

```yaml
scrape_configs:
  - job_name: signspool-door
    static_configs: [{targets: ["127.0.0.1:9464"]}]
  - job_name: signspool-processor
    static_configs: [{targets: ["127.0.0.1:9465"]}]
```

[`deploy/alerts.yml`](../deploy/alerts.yml) has the alarms, which know these two names of jobs, and
[the runbook](runbook.md) what to do about each. [`deploy/dashboard.json`](../deploy/dashboard.json) is a
dashboard for Grafana.

With `signspool api --workers N` the parent process answers, with the sums over all workers. A worker that
dies leaves its counts to the next one. The processor looks at spool and database in the background, at most
every 15 seconds and for at most a twentieth of the time. A scrape waits for that a second at most, and then
gets what was found before, `signspool_look_age_seconds` old.

Every label takes few values: `provider` is a name from the settings, or `unknown`; `lane` is
`provider:NAME`, `destination:NAME`, `mirror`, `poll:NAME` of what asks a provider, or `other` for what is in
no setting any more; `peer` is one of the first two, or `database`.
"""

_TIERS: dict[Tier, str] = {"both": "Both tiers", "door": "The door", "processor": "The processor"}


def render() -> str:
    """The page of all metrics."""
    lines = [_HEAD]
    for tier, title in _TIERS.items():
        lines += [f"## {title}", "", "| metric | kind | labels | what it says |", "|---|---|---|---|"]
        for metric in METRICS:
            if metric.tier == tier:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
        lines.append("")
    lines += [
        "Both tiers also have Prometheus' usual figures of a process: `process_resident_memory_bytes`,",
        "`process_cpu_seconds_total`, `process_open_fds`, `process_start_time_seconds`. With several workers",
        "of the door they are the parent's.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
