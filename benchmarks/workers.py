"""Two workers of the door on one spool, beside one, when there is room for them and for the load.

With few cores that room is made: each worker, together with its writer, is held to half a core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

from benchmarks import wrk
from benchmarks.figures import Figure, ratio_figure
from benchmarks.processes import children, family, writers_of
from benchmarks.servers import door_process, scratch_folder
from benchmarks.share import held_to

CONNECTIONS = 32
ENOUGH_CORES = 6
"""From so many on two workers, their writers and the load have one each."""

SHARE = 0.5
"""Of one core, for a worker with its writer, where there are fewer."""


def measure(*, quick: bool) -> list[Figure]:
    """Callbacks of 1 kB over 32 connections, one worker and two in turn."""
    rounds, seconds = (1, 2.0) if quick else (15, 2.0)
    is_held = len(os.sched_getaffinity(0)) < ENOUGH_CORES
    rates: dict[int, list[float]] = {1: [], 2: []}
    with scratch_folder() as home, ExitStack() as stack:
        urls = {}
        for workers in rates:
            place = home / f"door-{workers}"
            place.mkdir()
            urls[workers], pid = stack.enter_context(door_process(place, workers=workers))
            wrk.run(urls[workers], home, connections=CONNECTIONS, seconds=1)
            stack.enter_context(_held(pid, workers) if is_held else nullcontext())
        for _ in range(rounds):
            for workers, url in urls.items():
                os.sync()
                load = wrk.run(url, home, connections=CONNECTIONS, seconds=seconds)
                rates[workers].append(load.per_second)
    name = "two workers on one spool, beside one"
    if is_held:
        name += f", each held to {SHARE:g} of a core so that the load has room"
    return [ratio_figure(name, rates[2], rates[1], unit="callbacks/s", goal=1.5)]


def _held(door: int, workers: int) -> AbstractContextManager[None]:
    """Hold each worker and its writer.

    Raises:
        RuntimeError: the door has not as many workers.
    """
    families = list(_families(door))
    if len(families) != workers:
        raise RuntimeError(f"a door of {workers} workers has {len(families)} processes with a writer")
    return held_to(SHARE, families)


def _families(door: int) -> Iterator[Sequence[int]]:
    for pid in family(door):
        if set(children(pid)) & set(writers_of(door)):
            yield family(pid)
