"""From the moment a callback is due to be sent until an independent reader sees its status committed: both
tiers as real processes, 200 callbacks a second."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from benchmarks.figures import Figure, Reach
from benchmarks.ground import ACTIONS, DATABASES, SECRET, body, databases, empty_database, ground
from benchmarks.poller import POLL_SECONDS, polling
from benchmarks.servers import free_port, scratch_folder
from benchmarks.tiers import door_answers, running, wait_until

_RATE = 200
_SENDERS = 8
_P50_GOAL_MS, _P99_GOAL_MS = 30, 150

Sent = dict[str, float]
"""When the callback that got a receipt was due to be sent, on the monotonic clock."""


def measure(*, quick: bool) -> list[Figure]:
    """The median and the 99th percentile, for each database."""
    return list(chain.from_iterable(_figures(kind, seconds=5 if quick else 30) for kind in DATABASES))


def _figures(kind: str, *, seconds: float) -> list[Figure]:
    sent, seen = _turn(kind, seconds)
    waits_ms = sorted(1_000 * (seen[receipt_id] - at) for receipt_id, at in sent.items())
    measured = (
        f"{len(waits_ms):,} callbacks, {_RATE}/s; greatest {waits_ms[-1]:.0f} ms; "
        f"seen by a reader that looks every {1_000 * POLL_SECONDS:g} ms"
    )
    return [
        Figure(
            f"POST to status committed, {DATABASES[kind]}, {name}",
            waits_ms[int(share * len(waits_ms))],
            "ms",
            measured,
            reach=Reach.AT_MOST,
            goal=goal_ms,
        )
        for name, share, goal_ms in (("p50", 0.5, _P50_GOAL_MS), ("p99", 0.99, _P99_GOAL_MS))
    ]


def _turn(kind: str, seconds: float) -> tuple[Sent, Sent]:
    """When each callback was due, and when its event was seen; the first second is for warming up."""
    port = free_port()
    with (
        scratch_folder() as home,
        databases(kind, home) as at,
        empty_database(at, home) as url,
        ground(home) as place,
    ):
        place.configure(url, port=port)
        with running(place, "api"), running(place, "processor"), polling(url) as poller:
            wait_until(lambda: door_answers(port), "the door to be ready")
            warm = _send(port, 1.0, first_envelope=1)
            poller.wait_for(warm)
            sent = _send(port, seconds, first_envelope=1_000_000)
            poller.wait_for(sent)
            return sent, poller.result()


def _send(port: int, seconds: float, *, first_envelope: int) -> Sent:
    """Send at an even rate, whether answers come or not."""
    start = time.monotonic() + 0.1
    with ThreadPoolExecutor(_SENDERS) as senders:
        parts = senders.map(
            lambda number: _send_every(port, start, number, round(seconds * _RATE), first_envelope),
            range(_SENDERS),
        )
        return {receipt_id: at for part in parts for receipt_id, at in part.items()}


def _send_every(port: int, start: float, sender: int, count: int, first_envelope: int) -> Sent:
    """One sender's share, on one connection.

    An answer that comes late makes the next callback late; its wait counts from when it was due.
    """
    sent: Sent = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"content-type": "application/json", "x-callback-secret": SECRET}
    for number in range(sender, count, _SENDERS):
        due = start + number / _RATE
        time.sleep(max(0.0, due - time.monotonic()))
        envelope, action = str(first_envelope + number // len(ACTIONS)), ACTIONS[number % len(ACTIONS)]
        connection.request("POST", "/api/callback?provider=ssign", body(envelope, action), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the door answered {answer.status}: {content[:200]!r}")
        sent[json.loads(content)["id"]] = due
    connection.close()
    return sent
