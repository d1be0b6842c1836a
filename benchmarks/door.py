"""The door's speed: durable callbacks a second, and their latency, beside endpoints that keep less."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wrk
from benchmarks.figures import Figure, Reach, ratio_figure
from benchmarks.servers import door, peer, postgresql, scratch_folder

CONNECTIONS = 32

_OURS = "signspool"
_RENAME_ONLY = "signspool, rename-only"
_TWO_WORKERS = "signspool, two workers"
_READ_BODY = "FastAPI, body read and dropped"
_JSON_DUMP = "FastAPI, json.dump, no sync"
_JSON_DUMP_POOL = "FastAPI, json.dump in the thread pool, no sync"
_ASYNCPG = "FastAPI, asyncpg INSERT"

_DOORS = {_OURS: (1, "full"), _RENAME_ONLY: (1, "rename-only"), _TWO_WORKERS: (2, "full")}
"""Workers and durability of each door."""


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    spool: Path | None
    """Where a door of ours keeps its files."""


def measure(*, quick: bool) -> list[Figure]:
    """Callbacks of 1 kB over 32 connections, every server in turn, several times."""
    rounds, seconds = (1, 2.0) if quick else (7, 4.0)
    loads: dict[str, list[wrk.Load]] = defaultdict(list)
    with scratch_folder() as home, ExitStack() as stack:
        servers = _start(stack, home)
        for server in servers.values():
            wrk.run(server.url, home, connections=CONNECTIONS, seconds=1)
        for _ in range(rounds):
            for name, server in servers.items():
                before = _count_kept(server)
                os.sync()
                load = wrk.run(server.url, home, connections=CONNECTIONS, seconds=seconds)
                _check_kept(server, load, _count_kept(server) - before)
                loads[name].append(load)
    return _figures(loads)


def _start(stack: ExitStack, home: Path) -> Mapping[str, _Server]:
    database = stack.enter_context(postgresql(home))
    dump = stack.enter_context(peer("json_dump", home, {"BENCHMARK_FOLDER": str(home / "dump")}))
    pool = stack.enter_context(peer("json_dump_pool", home, {"BENCHMARK_FOLDER": str(home / "pool")}))
    insert = stack.enter_context(peer("asyncpg_insert", home, {"BENCHMARK_DATABASE": database}))
    servers = {
        _READ_BODY: _Server(stack.enter_context(peer("read_body", home)), None),
        _JSON_DUMP: _Server(dump, None),
        _JSON_DUMP_POOL: _Server(pool, None),
        _ASYNCPG: _Server(insert, None),
    }
    for number, (name, (workers, durability)) in enumerate(_DOORS.items()):
        place = home / f"door-{number}"
        place.mkdir()
        url = stack.enter_context(door(place, workers=workers, durability=durability))
        servers[name] = _Server(url, place / "root")
    return servers


# Nothing is deleted between the turns: ext4 does not use a deleted file's inode again for minutes, and looks
# at each of those whenever a file is made.


def _count_kept(server: _Server) -> int:
    return 0 if server.spool is None else sum(1 for _ in (server.spool / "spool").glob("*/*.json"))


def _check_kept(server: _Server, load: wrk.Load, kept: int) -> None:
    """A door that answered has to have the files.

    Raises:
        RuntimeError: it has fewer.
    """
    if server.spool is not None and kept < load.requests:
        raise RuntimeError(f"{load.requests} callbacks were acknowledged, and {kept} files are there")


def _figures(loads: Mapping[str, Sequence[wrk.Load]]) -> list[Figure]:
    rates = {name: [load.per_second for load in found] for name, found in loads.items()}
    p99 = {name: [load.p99_ms for load in found] for name, found in loads.items()}
    per_second = "callbacks/s"

    def rate(name: str, ours: str, theirs: str, goal: float | None) -> Figure:
        return ratio_figure(name, rates[ours], rates[theirs], unit=per_second, goal=goal)

    return [
        rate("durable callbacks, beside an endpoint that keeps nothing", _OURS, _READ_BODY, 1.0),
        rate("durable callbacks, beside json.dump without sync", _OURS, _JSON_DUMP, 3.0),
        rate("durable callbacks, beside json.dump in the thread pool", _OURS, _JSON_DUMP_POOL, 3.0),
        rate("durable callbacks, beside one INSERT through asyncpg", _OURS, _ASYNCPG, 2.0),
        rate("two workers, beside one, the load on the same cores", _TWO_WORKERS, _OURS, None),
        rate("durable callbacks, beside rename-only", _OURS, _RENAME_ONLY, None),
        ratio_figure(
            "p99 of a durable callback, beside an endpoint that keeps nothing",
            p99[_OURS],
            p99[_READ_BODY],
            unit="ms",
            goal=2.0,
            reach=Reach.AT_MOST,
        ),
    ]
