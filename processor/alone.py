"""Locks that hold for as long as a process lives: one processor for a spool, one housekeeping at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.spool import unavailable


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Whether nobody else holds a lock file at the moment; it is held inside the block.

    Raises:
        SpoolUnavailableError: the file cannot be opened, as in a folder that is gone.
    """
    with unavailable(f"open {lock.name}", gone_too=True):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
