"""Holds processes to a share of a core, so that others have room beside them: a control group's quota."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_PERIOD_MICROSECONDS = 5_000
"""Short beside what a request takes, so that nobody sleeps for long."""


@contextmanager
def held_to(share: float, families: Iterable[Iterable[int]]) -> Iterator[None]:
    """Hold each family of processes together to a share of one core, until the block ends.

    Raises:
        OSError: it is not permitted here, or the kernel has no such control.
    """
    parent = _MOUNT / "cpu" if (_MOUNT / "cpu").is_dir() else _MOUNT
    groups: list[Path] = []
    try:
        for family in families:
            group = parent / f"signspool-bench-{uuid.uuid4()}"
            group.mkdir()
            groups.append(group)
            _limit(group, share)
            for pid in family:
                (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            for left in (group / "cgroup.procs").read_text().split():
                (parent / "cgroup.procs").write_text(left)
            group.rmdir()


def _limit(group: Path, share: float) -> None:
    quota = int(share * _PERIOD_MICROSECONDS)
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
