"""Entries recorded and moved to `done/` a second: the daemon's own pass against a loop that takes them one at
a time, on both databases."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import URL

from benchmarks.figures import Figure, ratio_figure
from benchmarks.ground import DATABASES, Ground, databases, empty_database, ground, lay_entries
from benchmarks.peers import one_at_a_time
from benchmarks.servers import scratch_folder
from processor.assemble import daemon
from shared import logs
from shared.db.session import Database
from shared.settings import load_settings, secret_values
from shared.spool import Folder

Turn = Callable[[Ground], float]
"""Works a spool off; returns seconds."""


def measure(*, quick: bool) -> list[Figure]:
    """One figure for each database."""
    return [_compare(kind, entries=500 if quick else 5_000, turns=1 if quick else 3) for kind in DATABASES]


def _compare(kind: str, *, entries: int, turns: int) -> Figure:
    ours, theirs = [], []
    with scratch_folder() as home, databases(kind, home) as at:
        for _ in range(turns):
            ours.append(_rate(_our_pass, at, home, entries))
            theirs.append(_rate(_their_loop, at, home, entries))
    return ratio_figure(
        f"entries recorded and moved to done, {DATABASES[kind]}", ours, theirs, unit="entries/s", goal=5
    )


def _rate(turn: Turn, at: URL, home: Path, entries: int) -> float:
    """Entries a second of one turn, in a process of its own, on a new spool and an empty database."""
    with empty_database(at, home) as url, ground(home) as place:
        place.configure(url)
        lay_entries(place.spool, entries)
        os.sync()
        seconds = _in_a_process(turn, place)
        done = sum(1 for _ in place.spool.entries(Folder.DONE))
        if done != entries:
            raise RuntimeError(f"{done} of {entries} entries are in done/: look into {place.home}")
        return entries / seconds


def _in_a_process(turn: Turn, place: Ground) -> float:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(turn, place, there))
    process.start()
    there.close()
    try:
        seconds: float = here.recv()
    finally:
        process.join()
    return seconds


def _run(turn: Turn, place: Ground, answer: Connection) -> None:
    # The log is written, as it is in service, but not on to the terminal.
    with (place.home / "log").open("wb") as log:
        os.dup2(log.fileno(), 2)
    answer.send(turn(place))


def _our_pass(place: Ground) -> float:
    """What `signspool processor --once` does once it is loaded: from its first look to its end."""
    settings = load_settings(place.config, environ={})
    logs.configure(settings.log.format, settings.log.level, secrets=secret_values(settings))

    async def run() -> float:
        async with daemon(settings) as ready:
            began = ready.spool.clock.monotonic()
            await ready.run_once()
            return ready.spool.clock.monotonic() - began

    return asyncio.run(run())


def _their_loop(place: Ground) -> float:
    database = Database(load_settings(place.config, environ={}).database_url)
    try:
        return one_at_a_time.work_through(place.spool.root, database)
    finally:
        database.close()
