"""How a group of files is best brought to disk: what `docs/decisions/0004-group-commit.md` chose from."""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure, ratio_figure
from benchmarks.servers import scratch_folder
from shared.disk import sync_file_system

GROUPS = (1, 2, 4, 8, 32, 128)
THREADS = 4
DATA = b"x" * 1500

Sync = Callable[[int, Sequence[int]], None]


def measure(*, quick: bool) -> list[Figure]:
    """Make, sync, rename and sync the folder, for groups of several sizes; microseconds a file."""
    turns = 5 if quick else 40
    names = itertools.count()
    with scratch_folder() as home, ThreadPoolExecutor(THREADS) as pool:
        for folder in ("made", "day"):
            (home / folder).mkdir()

        def in_parallel(_folder: int, files: Sequence[int]) -> None:
            for _ in pool.map(os.fdatasync, files):
                pass

        syncs: dict[str, Sync] = {
            "fdatasync of each": _one_by_one,
            f"fdatasync by {THREADS} threads": in_parallel,
            "one syncfs": _together,
        }
        costs: dict[tuple[int, str], list[float]] = defaultdict(list)
        for size in GROUPS:
            for _ in range(turns):
                for name, sync in syncs.items():
                    costs[size, name].append(_bring_to_disk(home, size, sync, names))
    first, *others = syncs
    return [
        ratio_figure(
            f"{other} for a group of {size}, beside {first}",
            costs[size, other],
            costs[size, first],
            unit="µs a file",
            goal=None,
        )
        for size in GROUPS
        for other in others
    ]


def _one_by_one(_folder: int, files: Sequence[int]) -> None:
    for file in files:
        os.fdatasync(file)


def _together(folder: int, _files: Sequence[int]) -> None:
    sync_file_system(folder)


def _bring_to_disk(home: Path, size: int, sync: Sync, numbers: itertools.count[int]) -> float:
    made = os.open(home / "made", os.O_RDONLY | os.O_DIRECTORY)
    day = os.open(home / "day", os.O_RDONLY | os.O_DIRECTORY)
    names = [f"{next(numbers):040}.json" for _ in range(size)]
    started = time.perf_counter()
    files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=made) for name in names]
    for file in files:
        os.write(file, DATA)
    sync(day, files)
    for file in files:
        os.close(file)
    for name in names:
        os.rename(name, name, src_dir_fd=made, dst_dir_fd=day)
    os.fsync(day)
    elapsed_seconds = time.perf_counter() - started
    os.close(made)
    os.close(day)
    return elapsed_seconds / size * 1e6
