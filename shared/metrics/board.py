"""Numbers that several processes count side by side, and that one of them adds up.

Plain memory instead of metric objects, since the door counts on the way of every callback: to add to a cell
takes less than a tenth of a microsecond. The memory belongs to the process that made it and lies in no file,
so that no sync of the spool ever writes it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any, TypeAlias

import structlog

Row: TypeAlias = "memoryview[float]"
"""The numbers of one process. Each cell may have one thread that writes it; anybody may read."""

_CELL_BYTES = 8
_log = structlog.get_logger()


class Board:
    """Rows of `width` numbers. Handed to a worker process as an argument of its start, it is the same memory.

    A row outlives the process that counted in it: the next one goes on from there, so that sums never fall.
    """

    def __init__(self, width: int, rows: int, descriptor: int | None = None) -> None:
        self._width = width
        self._rows = rows
        if descriptor is None:
            descriptor = os.memfd_create("signspool-metrics")
            os.ftruncate(descriptor, width * rows * _CELL_BYTES)
        # Never closed: to close any descriptor of a file gives up all locks of the process on it.
        self._descriptor = descriptor
        memory = memoryview(mmap.mmap(descriptor, width * rows * _CELL_BYTES)).cast("d")
        self.rows = [memory[start : start + width] for start in range(0, width * rows, width)]
        """Every row, whoever counts there."""

    def __reduce__(self) -> tuple[Callable[..., Board], tuple[Any, ...]]:
        return _handed, (self._width, self._rows, DupFd(self._descriptor))

    def claim(self) -> Row:
        """A row that no other process counts in; it is free again when this process ends, however it does.

        With none left it is a row that nobody else sees: better to count for nobody than to miscount.
        """
        for number, row in enumerate(self.rows):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                continue
            return row
        _log.warning("metrics.no_row", reason="more processes count than were expected: restart the service")
        return memoryview(bytearray(self._width * _CELL_BYTES)).cast("d")


def _handed(width: int, rows: int, descriptor: Any) -> Board:
    """A board as a worker process gets it."""
    return Board(width, rows, descriptor.detach())
