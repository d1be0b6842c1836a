"""The processes of a door, and whether one still runs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import writers_of


def writer_of(door: int) -> int:
    """The process that writes for a door with one worker.

    Raises:
        AssertionError: there is none, or more than one.
    """
    found = writers_of(door)
    assert len(found) == 1, f"writers of {door}: {found}"
    return found[0]


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
