"""Counts what lies in the folders of the spool, and finds the oldest, without reading anything twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from shared.names import guid_in
from shared.spool import Folder, Spool, is_entry_name, unavailable

MOST_COUNTED = 1_000_000
"""Entries of one folder that are counted at one look."""

_AGED = (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE)
_GUESS_SECONDS = 2.0
"""A folder changed that lately may change again without another time of change."""


@dataclass(frozen=True, slots=True)
class Count:
    """The entries of a folder, and when the oldest arrived as Unix time; None without any."""

    entries: int
    oldest_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Day:
    changed_ns: int
    count: Count


class Census:
    """Looks into the folders. Used by one thread.

    A day folder that has not changed is not listed again, so that the cost follows what is going on and not
    what is kept.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._known: dict[tuple[Folder, str], _Day] = {}

    def take(self) -> Mapping[Folder, Count]:
        """What lies in each folder.

        Raises:
            SpoolUnavailableError: one cannot be listed.
        """
        seen: dict[tuple[Folder, str], _Day] = {}
        found = {folder: self._folder(folder, seen) for folder in Folder}
        self._known = seen
        return found

    def _folder(self, folder: Folder, seen: dict[tuple[Folder, str], _Day]) -> Count:
        counts = []
        left = MOST_COUNTED
        # The oldest days first, where the oldest entry is.
        for day in ("", *reversed(self._spool.days(folder))):
            listed = self._day(folder, day, left)
            if listed is None:
                continue
            seen[folder, day] = listed
            counts.append(listed.count)
            left -= listed.count.entries
            if left <= 0:
                break
        oldest = min((count.oldest_at for count in counts if count.oldest_at is not None), default=None)
        return Count(sum(count.entries for count in counts), oldest)

    def _day(self, folder: Folder, day: str, most: int) -> _Day | None:
        """One day, listed anew if it has changed; None when it is gone."""
        path = self._spool.folder(folder) / day
        known = self._known.get((folder, day))
        try:
            with unavailable(f"list {folder}/{day}"):
                changed_ns = path.stat().st_mtime_ns
                if known is not None and known.changed_ns == changed_ns:
                    return known
                count = _count(path, islice(_names(path), most), aged=folder in _AGED)
        except FileNotFoundError:
            return None
        is_sure = self._spool.clock.now().timestamp() - changed_ns / 1e9 > _GUESS_SECONDS
        return _Day(changed_ns if is_sure else -1, count)


def _names(path: Path) -> Iterator[str]:
    with os.scandir(path) as found:
        for item in found:
            if is_entry_name(item.name) and not item.is_dir(follow_symlinks=False):
                yield item.name


def _count(path: Path, names: Iterator[str], *, aged: bool) -> Count:
    if not aged:
        return Count(sum(1 for _ in names))
    number, oldest = 0, float("inf")
    for name in names:
        number += 1
        oldest = min(oldest, _arrived_at(path, name))
    return Count(number, oldest if number else None)


def _arrived_at(path: Path, name: str) -> float:
    """When an entry arrived: what its guid says, if that tells the time, else when its file was written."""
    guid = guid_in(name)
    if guid is not None and guid[14] == "7":
        return int(guid[:8] + guid[9:13], 16) / 1000
    try:
        return (path / name).lstat().st_mtime
    except FileNotFoundError:
        return float("inf")
