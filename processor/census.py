"""Counts what lies in the folders of the spool, and finds the oldest, without reading anything twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from shared.names import guid_in
from shared.spool import Entry, Folder, Spool, is_entry_name, unavailable

MOST_COUNTED = 1_000_000
"""Entries of one folder that are counted at one look."""

SEEN = ".seen"
"""A file that a person touches in a folder to say: what lies here now is known."""

SEEN_IN = (Folder.DEFERRED, Folder.QUARANTINE)
"""The folders where that counts: what lies there may rightly stay for long."""

_AGED = (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE)
_GUESS_SECONDS = 2.0
"""A folder changed that lately may change again without another time of change."""
_NEVER = _ALL_SEEN = float("inf")
_NOTHING_SEEN = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    """The entries of a folder, and when the oldest arrived as Unix time; None without any.

    `unseen` of them came after a person last looked, the first at `oldest_unseen_at`; to quarantine an entry
    comes when it is put there. Both are counted in `SEEN_IN` alone.
    """

    entries: int
    oldest_at: float | None = None
    unseen: int = 0
    oldest_unseen_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Day:
    changed_ns: int
    seen_at: float
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
        seen_at = self._seen_at(folder) if folder in SEEN_IN else _ALL_SEEN
        # The oldest days first, where the oldest entry is.
        for day in ("", *reversed(self._spool.days(folder))):
            listed = self._day(folder, day, left, seen_at)
            if listed is None:
                continue
            seen[folder, day] = listed
            counts.append(listed.count)
            left -= listed.count.entries
            if left <= 0:
                break
        return Count(
            sum(count.entries for count in counts),
            _least(count.oldest_at for count in counts),
            sum(count.unseen for count in counts),
            _least(count.oldest_unseen_at for count in counts),
        )

    def _seen_at(self, folder: Folder) -> float:
        """When a person last looked at a folder, as Unix time.

        A time that has not come yet is none: it would hide what nobody can have seen.
        """
        path = self._spool.folder(folder) / SEEN
        try:
            with unavailable(f"look at {path}"):
                seen_at = path.stat().st_mtime
        except FileNotFoundError:
            return _NOTHING_SEEN
        return seen_at if seen_at <= self._spool.clock.now().timestamp() + _GUESS_SECONDS else _NOTHING_SEEN

    def _day(self, folder: Folder, day: str, most: int, seen_at: float) -> _Day | None:
        """One day, listed anew if it has changed; None when it is gone."""
        path = self._spool.folder(folder) / day
        known = self._known.get((folder, day))
        try:
            with unavailable(f"list {folder}/{day}"):
                changed_ns = path.stat().st_mtime_ns
                if known is not None and (known.changed_ns, known.seen_at) == (changed_ns, seen_at):
                    return known
                count = self._count(folder, day, islice(_names(path), most), seen_at)
        except FileNotFoundError:
            return None
        is_sure = self._spool.clock.now().timestamp() - changed_ns / 1e9 > _GUESS_SECONDS
        return _Day(changed_ns if is_sure else -1, seen_at, count)

    def _count(self, folder: Folder, day: str, names: Iterator[str], seen_at: float) -> Count:
        if folder not in _AGED:
            return Count(sum(1 for _ in names))
        path = self._spool.folder(folder) / day
        number, unseen, oldest, oldest_unseen = 0, 0, _NEVER, _NEVER
        for name in names:
            number += 1
            arrived_at = came_at = _arrived_at(path, name)
            oldest = min(oldest, arrived_at)
            if folder is Folder.QUARANTINE:
                came_at = self._quarantined_at(Entry(day, name))
            if came_at >= seen_at:
                unseen += 1
                oldest_unseen = min(oldest_unseen, came_at)
        return Count(number, _known(oldest), unseen, _known(oldest_unseen))

    def _quarantined_at(self, entry: Entry) -> float:
        try:
            return self._spool.quarantined_at(entry)
        except FileNotFoundError:
            return _NEVER


def _names(path: Path) -> Iterator[str]:
    with os.scandir(path) as found:
        for item in found:
            if is_entry_name(item.name) and not item.is_dir(follow_symlinks=False):
                yield item.name


def _least(times: Iterable[float | None]) -> float | None:
    return min((at for at in times if at is not None), default=None)


def _known(at: float) -> float | None:
    return None if at == _NEVER else at


def _arrived_at(path: Path, name: str) -> float:
    """When an entry arrived: what its guid says, if that tells the time, else when its file was written."""
    guid = guid_in(name)
    if guid is not None and guid[14] == "7":
        return int(guid[:8] + guid[9:13], 16) / 1000
    try:
        return (path / name).lstat().st_mtime
    except FileNotFoundError:
        return _NEVER
