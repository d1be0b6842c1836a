"""Several nodes on one PostgreSQL: what a second one adds, what entries cost, and how soon a standby works.

All of it runs on one machine, so nodes and database share its cores: the ratio of two nodes to one says how
little they hinder each other, not what a second machine brings. That follows from the processor time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import URL

from benchmarks.figures import Figure, ratio_figure
from benchmarks.ground import Ground, databases, empty_database, entry, ground, lay_entries
from benchmarks.servers import process, scratch_folder
from processor.assemble import daemon
from shared import logs
from shared.settings import load_settings
from shared.spool import Folder

_PATIENCE_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn took: entries a second, and processor time for a thousand of them, in seconds."""

    rate: float
    nodes_seconds: float
    database_seconds: float


def measure(*, quick: bool) -> list[Figure]:
    """Figures of one and two nodes, of the database's part, and of a takeover."""
    entries, turns = (1_000, 1) if quick else (5_000, 3)
    with scratch_folder() as home, databases("postgresql", home) as at:
        one, two = [], []
        for _ in range(turns):
            one.append(_turn(at, home, 1, entries))
            two.append(_turn(at, home, 2, entries))
        takeovers = [_takeover(at, home) for _ in range(turns)]
    return [
        ratio_figure(
            "entries recorded and moved to done, two nodes on one PostgreSQL against one node, same cores",
            [turn.rate for turn in two],
            [turn.rate for turn in one],
            unit="entries/s",
            goal=None,
        ),
        _shares("one node", one),
        _shares("two nodes", two),
        Figure(
            name="from the death of a processor to the first entry that its standby has recorded",
            value=statistics.median(takeovers),
            unit="s",
            measured=f"{min(takeovers):.2g} to {max(takeovers):.2g} s",
            runs=turns,
        ),
    ]


def _shares(which: str, turns: Sequence[Turn]) -> Figure:
    return ratio_figure(
        f"processor time of PostgreSQL against that of the nodes, {which}",
        [turn.database_seconds for turn in turns],
        [turn.nodes_seconds for turn in turns],
        unit="s for 1,000 entries",
        goal=None,
    )


def _turn(at: URL, home: Path, nodes: int, entries: int) -> Turn:
    """Let nodes work off their spools, each with its part of the entries, all at once."""
    share = entries // nodes
    with ExitStack() as stack:
        url = stack.enter_context(empty_database(at, home))
        places = [stack.enter_context(ground(home)) for _ in range(nodes)]
        for number, place in enumerate(places):
            place.configure(url)
            lay_entries(place.spool, share, start=number * share)
        os.sync()
        database_before = _database_seconds(home)
        began, worked = _in_processes(places)
        seconds = time.monotonic() - began
        database_seconds = _database_seconds(home) - database_before
        done = sum(1 for place in places for _ in place.spool.entries(Folder.DONE))
        if done != share * nodes:
            raise RuntimeError(f"{done} of {share * nodes} entries are in done/: look into {home}")
    thousands = done / 1_000
    return Turn(done / seconds, sum(worked) / thousands, database_seconds / thousands)


def _in_processes(places: Sequence[Ground]) -> tuple[float, list[float]]:
    """Start when all are ready; returns when that was, and the processor seconds of each."""
    context = multiprocessing.get_context("spawn")
    running = []
    for place in places:
        here, there = context.Pipe()
        started = context.Process(target=_node, args=(place, there))
        started.start()
        there.close()
        running.append((started, here))
    for _, here in running:
        here.recv()
    began = time.monotonic()
    for _, here in running:
        here.send("go")
    worked: list[float] = [here.recv() for _, here in running]
    for started, _ in running:
        started.join()
    return began, worked


def _node(place: Ground, line: Connection) -> None:
    """What `signspool processor --once` does once it is loaded, from the word to its end."""
    # The log is written, as it is in service, but not on to the terminal.
    with (place.home / "log").open("wb") as log:
        os.dup2(log.fileno(), 2)
    settings = load_settings(place.config, environ={})
    logs.configure(settings.log.format, settings.log.level)

    async def run() -> None:
        async with daemon(settings) as ready:
            line.send("ready")
            line.recv()
            before = time.process_time()
            await ready.run_once()
            line.send(time.process_time() - before)

    asyncio.run(run())


def _database_seconds(home: Path) -> float:
    """Processor time that the server and all its processes have used, those that have ended too."""
    server = int((home / "postgresql" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parent, own, ended = int(fields[1]), fields[11:13], fields[13:15]
        if parent == server:
            ticks += sum(map(int, own))
        elif int(path.parent.name) == server:
            ticks += sum(map(int, own + ended))
    return ticks / _TICKS


def _takeover(at: URL, home: Path) -> float:
    """Seconds from the kill of one processor until another, which stood by, has recorded an entry."""
    with ExitStack() as stack:
        url = stack.enter_context(empty_database(at, home))
        place = stack.enter_context(ground(home))
        place.configure(url)
        command = [sys.executable, "-m", "signspool", "processor", "--config", str(place.config)]
        logs_of = [place.home / f"{name}.log" for name in ("first", "second")]
        first = stack.enter_context(process(command, logs_of[0]))
        _wait(lambda: b"processor.started" in logs_of[0].read_bytes())
        stack.enter_context(process(command, logs_of[1]))
        _wait(lambda: b"processor.standby" in logs_of[1].read_bytes())
        name, content = entry(0, place.spool.clock.local())
        path = place.spool.folder(Folder.SPOOL) / place.spool.clock.today().isoformat() / name
        first.kill()
        began = time.monotonic()
        path.write_bytes(content)
        _wait(lambda: not path.exists())
        return time.monotonic() - began


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing happened within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.005)
