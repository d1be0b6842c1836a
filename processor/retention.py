"""Retention: whole days of finished and of refused entries go when their time is over."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import date, timedelta

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

    def drop(self) -> int:
        """Delete the days whose time is over, once a day; returns how many.

        Raises:
            SpoolUnavailableError: one cannot be deleted.
        """
        today = self._spool.clock.today()
        if self._checked_on == today:
            return 0
        days = self.over()
        for folder, name in days:
            with unavailable(f"delete {folder}/{name}"):
                shutil.rmtree(self._spool.folder(folder) / name)
            log.info("retention.dropped", folder=str(folder), day=name)
        self._drop_empty_file_folders()
        self._checked_on = today
        return len(days)

    def _drop_empty_file_folders(self) -> None:
        """Signed files go one by one, when they are delivered; the day folders they leave go here."""
        today = self._spool.clock.today()
        for path in sorted(self._spool.files.glob("????-??-??/**/"), reverse=True):
            day = day_of(path.relative_to(self._spool.files).parts[0])
            if day is not None and day < today:
                with unavailable(f"delete {path}"):
                    if not any(path.iterdir()):
                        path.rmdir()
