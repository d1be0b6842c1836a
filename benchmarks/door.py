"""The door's speed: durable callbacks a second, and their latency, beside endpoints that keep less."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wrk
from benchmarks.figures import Figure, Reach, ratio_figure
from benchmarks.servers import door, peer, postgresql, scratch_folder

CONNECTIONS = 32
TURN_SECONDS = 1

_OURS = "signspool"
_RENAME_ONLY = "signspool, rename-only"
_TWO_WORKERS = "signspool, two workers"
_READ_BODY = "FastAPI, body read and dropped"
_JSON_DUMP = "FastAPI, json.dump, no sync"
_JSON_DUMP_POOL = "FastAPI, json.dump in the thread pool, no sync"
_ASYNCPG = "FastAPI, asyncpg INSERT"

_DOORS = {_OURS: (1, "full"), _TWO_WORKERS: (2, "full"), _RENAME_ONLY: (1, "rename-only")}
"""Workers and durability of each door."""


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    spool: Path | None
    """Where a door of ours keeps its files."""


@dataclass(slots=True)
class _Pair:
    """Turns of our door, each right after one of the server beside it."""

    ours: list[wrk.Load] = field(default_factory=list)
    theirs: list[wrk.Load] = field(default_factory=list)


def measure(*, quick: bool) -> list[Figure]:
    """Callbacks of 1 kB over 32 connections, every other server and our door in turn, many times.

    The turns are short, so that whoever else uses the disk for some seconds meets both sides of a pair.
    """
    rounds = 1 if quick else 15
    with scratch_folder() as home, ExitStack() as stack:
        servers = _start(stack, home)
        pairs = {name: _Pair() for name in servers if name != _OURS}
        for server in servers.values():
            _turn(server, home)
        for _ in range(rounds):
            for name, pair in pairs.items():
                pair.theirs.append(_turn(servers[name], home))
                pair.ours.append(_turn(servers[_OURS], home))
    return _figures(pairs)


def _turn(server: _Server, home: Path) -> wrk.Load:
    before = _count_kept(server)
    os.sync()
    load = wrk.run(server.url, home, connections=CONNECTIONS, seconds=TURN_SECONDS)
    _check_kept(server, load, _count_kept(server) - before)
    return load


def _start(stack: ExitStack, home: Path) -> Mapping[str, _Server]:
    database = stack.enter_context(postgresql(home))
    dump = stack.enter_context(peer("json_dump", home, {"BENCHMARK_FOLDER": str(home / "dump")}))
    pool = stack.enter_context(peer("json_dump_pool", home, {"BENCHMARK_FOLDER": str(home / "pool")}))
    insert = stack.enter_context(peer("asyncpg_insert", home, {"BENCHMARK_DATABASE": database}))
    servers = {_READ_BODY: _Server(stack.enter_context(peer("read_body", home)), None)}
    for number, (name, (workers, durability)) in enumerate(_DOORS.items()):
        place = home / f"door-{number}"
        place.mkdir()
        url = stack.enter_context(door(place, workers=workers, durability=durability))
        servers[name] = _Server(url, place / "root")
    return {
        **servers,
        _JSON_DUMP: _Server(dump, None),
        _JSON_DUMP_POOL: _Server(pool, None),
        _ASYNCPG: _Server(insert, None),
    }


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


def _figures(pairs: Mapping[str, _Pair]) -> list[Figure]:
    def rate(name: str, theirs: str, goal: float | None) -> Figure:
        pair = pairs[theirs]
        return _ratio(name, pair.ours, pair.theirs, goal)

    aside, read_body = pairs[_TWO_WORKERS], pairs[_READ_BODY]
    return [
        rate("durable callbacks, beside an endpoint that keeps nothing", _READ_BODY, 1.0),
        rate("durable callbacks, beside json.dump without sync", _JSON_DUMP, 3.0),
        rate("durable callbacks, beside json.dump in the thread pool", _JSON_DUMP_POOL, 3.0),
        rate("durable callbacks, beside one INSERT through asyncpg", _ASYNCPG, 2.0),
        _ratio("two workers, beside one, the load on the same cores", aside.theirs, aside.ours, None),
        rate("durable callbacks, beside rename-only", _RENAME_ONLY, None),
        ratio_figure(
            "p99 of a durable callback, beside an endpoint that keeps nothing",
            [load.p99_ms for load in read_body.ours],
            [load.p99_ms for load in read_body.theirs],
            unit="ms",
            goal=2.0,
            reach=Reach.AT_MOST,
        ),
    ]


def _ratio(name: str, ours: Sequence[wrk.Load], theirs: Sequence[wrk.Load], goal: float | None) -> Figure:
    rates = ([load.per_second for load in loads] for loads in (ours, theirs))
    return ratio_figure(name, *rates, unit="callbacks/s", goal=goal)
