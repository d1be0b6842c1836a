"""Retention: whole days of finished and of refused entries go when their time is over."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import structlog

from shared.names import day_of
from shared.spool import Folder, Spool, unavailable

log = structlog.get_logger()

_DAY = timedelta(days=1)


class Retention:
    """Drops day folders. `keep_seconds` tells how long after its end a day of a folder is kept."""

    def __init__(self, spool: Spool, keep_seconds: Mapping[Folder, float]) -> None:
        self._spool = spool
        self._keep = {folder: timedelta(seconds=seconds) for folder, seconds in keep_seconds.items()}
        self._checked_on: date | None = None

    def over(self) -> list[tuple[Folder, str]]:
        """The days whose time is over, oldest first.

        Raises:
            SpoolUnavailableError: a folder cannot be listed.
        """
        today = self._spool.clock.today()
        return [
            (folder, name)
            for folder, keep in self._keep.items()
            for name in reversed(self._spool.days(folder))
            if (day := day_of(name)) is not None and today - day - _DAY >= keep
        ]

    def drop(self, stop: threading.Event) -> int:
        """Delete the days whose time is over, once a day or until told to stop; returns how many.

        Raises:
            SpoolUnavailableError: one cannot be deleted.
        """
        today = self._spool.clock.today()
        if self._checked_on == today:
            return 0
        days = self.over()
        for number, (folder, name) in enumerate(days):
            with unavailable(f"delete {folder}/{name}"):
                if not _drop_folder(self._spool.folder(folder) / name, stop):
                    return number
            log.info("retention.dropped", folder=str(folder), day=name)
        self._drop_empty_days()
        self._drop_empty_file_folders()
        self._checked_on = today
        return len(days)

    def _drop_empty_days(self) -> None:
        """Days before yesterday from which everything has moved on; the door writes into none of them."""
        yesterday = self._spool.clock.today() - _DAY
        for folder in (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE):
            for name in self._spool.days(folder):
                day = day_of(name)
                if day is not None and day < yesterday:
                    _remove_if_empty(self._spool.folder(folder) / name)

    def _drop_empty_file_folders(self) -> None:
        """Signed files go one by one, when they are delivered; the day folders they leave go here."""
        today = self._spool.clock.today()
        for path in sorted(self._spool.files.glob("????-??-??/**/"), reverse=True):
            day = day_of(path.relative_to(self._spool.files).parts[0])
            if day is not None and day < today:
                with unavailable(f"delete {path}"):
                    if not any(path.iterdir()):
                        path.rmdir()


def _drop_folder(path: Path, stop: threading.Event) -> bool:
    """Delete a folder and what lies in it, file by file, since there may be millions; False when told to stop
    before the end."""
    with os.scandir(path) as found:
        for item in found:
            if stop.is_set():
                return False
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                Path(item.path).unlink(missing_ok=True)
    path.rmdir()
    return True


def _remove_if_empty(path: Path) -> None:
    with unavailable(f"delete {path}"):
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
