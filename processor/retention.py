"""Retention: whole days of finished and of refused entries go when their time is over."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import structlog

from processor.daylists import EXPIRED_SUFFIX, LIST_SUFFIX, DayLists
from shared.errors import SpoolUnavailableError
from shared.names import day_of
from shared.spool import Folder, Spool, unavailable, write_small

log = structlog.get_logger()

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Expired:
    """What is over, oldest first: day folders, reasons whose entries are gone, and lists of digests with the
    notes of deleted days, by their paths under the root."""

    days: list[tuple[Folder, str]]
    reasons: list[str]
    lists: list[str]


class Retention:
    """Drops day folders. `keep_seconds` tells how long after its end a day of a folder is kept.

    `reasons_seconds` is for reasons in `quarantine/` whose entry a person has taken away, `lists_seconds` for
    the lists of digests; None keeps them.
    """

    def __init__(
        self,
        spool: Spool,
        keep_seconds: Mapping[Folder, float],
        *,
        reasons_seconds: float | None = None,
        lists_seconds: float | None = None,
    ) -> None:
        self._spool = spool
        self._keep = {folder: timedelta(seconds=seconds) for folder, seconds in keep_seconds.items()}
        self._keep_reasons = None if reasons_seconds is None else timedelta(seconds=reasons_seconds)
        self._keep_lists = None if lists_seconds is None else timedelta(seconds=lists_seconds)
        self._lists = DayLists(spool)
        self._checked_on: date | None = None

    def expired(self) -> Expired:
        """Everything whose time is over.

        Raises:
            SpoolUnavailableError: a folder cannot be listed.
        """
        return Expired(self.over(), list(self._reasons()), list(self._old_lists()))

    def over(self) -> list[tuple[Folder, str]]:
        """The days whose time is over, oldest first.

        Raises:
            SpoolUnavailableError: a folder cannot be listed.
        """
        return [
            (folder, name)
            for folder, keep in self._keep.items()
            for name in reversed(self._spool.days(folder))
            if self._is_over(name, keep)
        ]

    def _is_over(self, name: str, keep: timedelta) -> bool:
        day = day_of(name)
        return day is not None and self._spool.clock.today() - day - _DAY >= keep

    def drop(self, stop: threading.Event) -> int:
        """Delete what is over, once a day or until told to stop; returns how many days.

        What cannot be deleted keeps nothing else from going, and is tried again by the next call.

        Raises:
            SpoolUnavailableError: something could not be deleted; the rest was.
        """
        today = self._spool.clock.today()
        if self._checked_on == today:
            return 0
        dropped = 0
        troubles: list[SpoolUnavailableError] = []
        for folder, name in self.over():
            try:
                dropped += self._drop_day(folder, name, stop)
            except SpoolUnavailableError as error:
                troubles.append(error)
            if stop.is_set():
                return dropped
        for path in (*self._reasons(), *self._old_lists()):
            try:
                with unavailable(f"delete {path}"):
                    (self._spool.root / path).unlink(missing_ok=True)
            except SpoolUnavailableError as error:
                troubles.append(error)
            else:
                log.info("retention.dropped", path=path)
        if troubles:
            raise troubles[0]
        self._drop_empty_days()
        self._drop_empty_file_folders()
        self._checked_on = today
        return dropped

    def _drop_day(self, folder: Folder, name: str, stop: threading.Event) -> bool:
        """Delete one day; False when told to stop before its end, or when somebody has taken it away."""
        path = self._spool.folder(folder) / name
        with unavailable(f"delete {folder}/{name}"):
            try:
                found = os.scandir(path)
            except FileNotFoundError:
                return False
            with found:
                if folder is Folder.DONE:
                    self._note_expired(name)
                if not _drop_all(found, stop):
                    return False
            with suppress(FileNotFoundError):
                # A day that somebody moved to another disk left a link behind.
                path.unlink() if path.is_symlink() else path.rmdir()
        log.info("retention.dropped", folder=str(folder), day=name)
        return True

    def _note_expired(self, day: str) -> None:
        """Before a day is deleted: who misses its files one day finds out where they went."""
        note = self._spool.folder(Folder.DONE) / f"{day}{EXPIRED_SUFFIX}"
        if not note.exists():
            content = {"day": day, "expiredAt": self._spool.clock.local().isoformat(timespec="seconds")}
            with unavailable(f"write {note.name}", gone_too=True):
                write_small(note, json.dumps(content) + "\n")

    def _reasons(self) -> Iterator[str]:
        """Reasons of days that are over, whose entry lies beside them no more."""
        for day in reversed(self._spool.days(Folder.QUARANTINE)) if self._keep_reasons is not None else ():
            if not self._is_over(day, self._keep_reasons or _DAY):
                continue
            with suppress(FileNotFoundError), unavailable(f"list {Folder.QUARANTINE}/{day}"):
                yield from self._spool.orphaned_reasons(day)

    def _old_lists(self) -> Iterator[str]:
        """Lists that are over, but never the newest, and the notes of days deleted as long ago."""
        if self._keep_lists is None:
            return
        named = [(day, LIST_SUFFIX) for day in self._lists.days()[:-1]]
        named += [(day, EXPIRED_SUFFIX) for day in self._lists.expired()]
        for day, suffix in sorted(named):
            if self._is_over(day, self._keep_lists):
                yield f"{Folder.DONE}/{day}{suffix}"

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
        for day_folder in self._spool.files.glob("????-??-??/"):
            day = day_of(day_folder.name)
            # Today's come and go at this moment; an older one may be taken away by another hand, too.
            if day is None or day >= today:
                continue
            for path, _, _ in os.walk(day_folder, topdown=False):
                with unavailable(f"delete {path}"), suppress(FileNotFoundError):
                    if not any(Path(path).iterdir()):
                        Path(path).rmdir()


def _drop_all(found: Iterator[os.DirEntry[str]], stop: threading.Event) -> bool:
    """Delete what lies in a folder, file by file, since there may be millions; False when told to stop before
    the end."""
    for item in found:
        if stop.is_set():
            return False
        with suppress(FileNotFoundError):
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                Path(item.path).unlink()
    return True


def _remove_if_empty(path: Path) -> None:
    with unavailable(f"delete {path}"):
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
