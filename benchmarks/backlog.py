"""What a million waiting entries in one day folder change: cost an entry, time to the first, memory, and the
wait of a callback that arrives meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sqlalchemy import URL

from benchmarks.figures import Figure, Reach, ratio_figure
from benchmarks.ground import Ground, databases, empty_database, entry, ground, lay_entries
from benchmarks.poller import polling
from benchmarks.servers import scratch_folder
from benchmarks.tiers import memory_bytes, running, wait_until
from shared.names import guid_in
from shared.spool import Entry, Folder

_SMALL = 10_000
_COUNTED = 8_000
"""Entries whose cost is measured: the first ones that are recorded, however many wait."""

_ARRIVAL_SECONDS = 0.05
_FIRST_ARRIVAL = 100_000_000
_COST_GOAL, _MEMORY_GOAL_MIB, _ARRIVAL_GOAL_MS = 1.25, 150, 1_000


@dataclass(frozen=True, slots=True)
class _Turn:
    start_seconds: float
    """From the start of the process to the first recorded entry."""
    entry_us: float
    peak_mib: float
    arrivals_ms: list[float]


def measure(*, quick: bool) -> list[Figure]:
    """Each beside the same with 10,000 entries, or a goal of its own."""
    waiting, turns, arrivals = (100_000, 1, 60) if quick else (1_000_000, 3, 300)
    with scratch_folder() as home, databases("sqlite", home) as at, ground(home) as large:
        lay_entries(large.spool, waiting)
        many, few = [], []
        for turn in range(turns):
            numbers = range(_FIRST_ARRIVAL + turn * arrivals, _FIRST_ARRIVAL + (turn + 1) * arrivals)
            many.append(_turn(large, at, home, numbers))
            with ground(home) as small:
                lay_entries(small.spool, _SMALL)
                few.append(_turn(small, at, home, range(0)))
    return _figures(waiting, many, few)


def _figures(waiting: int, many: Sequence[_Turn], few: Sequence[_Turn]) -> list[Figure]:
    where = f"with {waiting:,} waiting"
    arrivals_ms = sorted(chain.from_iterable(turn.arrivals_ms for turn in many))
    peaks = [turn.peak_mib for turn in many]
    return [
        ratio_figure(
            f"cost of an entry {where}",
            [turn.entry_us for turn in many],
            [turn.entry_us for turn in few],
            unit="µs",
            goal=_COST_GOAL,
            reach=Reach.AT_MOST,
        ),
        ratio_figure(
            f"process start to first recorded entry {where}",
            [turn.start_seconds for turn in many],
            [turn.start_seconds for turn in few],
            unit="s",
            goal=_COST_GOAL,
            reach=Reach.AT_MOST,
        ),
        Figure(
            f"peak memory of the processor {where}",
            max(peaks),
            "MiB",
            f"{max(peaks):.0f} MiB",
            compared=f"{statistics.median(turn.peak_mib for turn in few):.0f} MiB with {_SMALL:,}",
            reach=Reach.AT_MOST,
            goal=_MEMORY_GOAL_MIB,
            runs=len(peaks),
            spread=(min(peaks), max(peaks)),
        ),
        Figure(
            f"new arrival to status committed {where}, p99",
            arrivals_ms[int(0.99 * len(arrivals_ms))],
            "ms",
            f"{len(arrivals_ms)} arrivals; median {statistics.median(arrivals_ms):.0f} ms",
            reach=Reach.AT_MOST,
            goal=_ARRIVAL_GOAL_MS,
        ),
    ]


def _turn(place: Ground, at: URL, home: Path, arrivals: Sequence[int]) -> _Turn:
    """Start a processor on what lies there, with an empty database, and watch it."""
    os.sync()
    with empty_database(at, home) as url:
        place.configure(url)
        with polling(url) as poller:
            began = time.monotonic()
            with running(place, "processor") as process:
                wait_until(lambda: poller.count() >= _COUNTED, f"{_COUNTED} entries to be recorded")
                arrived = _arrive(place, arrivals)
                poller.wait_for(arrived)
                peak_mib = memory_bytes(process) / 2**20
            seen = poller.result()
    times = sorted(seen.values())
    # Whole transactions: from the first that was seen to the one that completes the number.
    end = times[_COUNTED - 1]
    counted = bisect_right(times, end) - bisect_right(times, times[0])
    return _Turn(
        start_seconds=times[0] - began,
        entry_us=1e6 * (end - times[0]) / counted,
        peak_mib=peak_mib,
        arrivals_ms=[1_000 * (seen[receipt_id] - at) for receipt_id, at in arrived.items()],
    )


def _arrive(place: Ground, numbers: Sequence[int]) -> dict[str, float]:
    """Bring in entries at an even rate, each by a rename as the door does; says when, by receipt."""
    arrived = {}
    for number in numbers:
        time.sleep(_ARRIVAL_SECONDS)
        name, content = entry(number, place.spool.clock.local())
        made = place.spool.temporary / name
        made.write_bytes(content)
        path = place.spool.path(Folder.SPOOL, Entry(place.spool.clock.today().isoformat(), name))
        arrived[guid_in(name) or ""] = time.monotonic()
        made.rename(path)
    return arrived
