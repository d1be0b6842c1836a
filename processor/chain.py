"""Verifies the daily lists of digests and what they list, and explains what is gone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from processor.daylists import (
    ERASED_SUFFIX,
    EXPIRED_SUFFIX,
    DayLists,
    Line,
    digest_of_file,
    parse_line,
    path_in,
)
from shared.spool import Entry, Folder, Spool

_ELSEWHERE = (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was altered, or is missing without an explanation; a path under `done/`."""

    path: str
    text: str


@dataclass(slots=True)
class Verified:
    """What was found: how many lists, how many files in each state, and every fault.

    States: `sound`, `erased` on request, `expired` with its day, `elsewhere` when it was put back to be
    handled again, `altered`, `missing`. `unlisted` are the paths of files that came after the newest list, as
    a rule, and wait for the next. `ends_with_sha256` is the digest of the newest list, which vouches for all.
    """

    lists: int = 0
    begins_on: str | None = None
    ends_on: str | None = None
    ends_with_sha256: str | None = None
    files: Counter[str] = field(default_factory=Counter)
    unlisted: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class Chain:
    """The lists of one spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lists = DayLists(spool)
        self._expired: set[str] = set()

    def verify(self, *, since: str | None = None, files: bool = True) -> Verified:
        """Go through the lists from a day on, or all; without `files` only whether each names the one before.

        Raises:
            SpoolUnavailableError: a list or a folder cannot be read.
        """
        days = [day for day in self._lists.days() if since is None or day >= since]
        self._expired = set(self._lists.expired())
        found = Verified(lists=len(days), begins_on=min(days, default=None), ends_on=max(days, default=None))
        on_disk = Counter[str]()
        before: str | None = None
        for day in days:
            self._verify_list(found, day, before, on_disk, files=files)
            before = day
        if days:
            found.ends_with_sha256 = self._digest(found, self._lists.path(days[-1]).name)
        if files and days:
            for day in reversed(self._spool.days(Folder.DONE)):
                # Names are compared for the few days alone in which there are more than were listed.
                if days[0] <= day <= days[-1] and self._count(day) > on_disk[day]:
                    found.unlisted += self._unlisted(day, days)
        return found

    def _count(self, day: str) -> int:
        return sum(1 for _ in self._lists.names_in(day))

    def _unlisted(self, day: str, days: list[str]) -> list[str]:
        names = set(self._lists.names_in(day))
        for listed in days:
            if listed >= day:
                names.difference_update(filter(None, map(path_in, self._lists.lines(listed))))
        return sorted(names)

    def _verify_list(
        self, found: Verified, day: str, before: str | None, on_disk: Counter[str], *, files: bool
    ) -> None:
        name = self._lists.path(day).name
        names_before = None
        for number, data in enumerate(self._lists.lines(day), 1):
            try:
                line = parse_line(data)
            except ValueError as error:
                found.faults.append(Fault(name, f"entry {number} of the list is {error}"))
                continue
            if line.path.endswith(".sha256") and not line.day:
                names_before = line.path
                self._verify_before(found, name, line, is_first=before is None)
            elif files:
                self._verify_file(found, line, on_disk)
        if before is not None and names_before != self._lists.path(before).name:
            found.faults.append(
                Fault(name, f"does not name the list before it, {self._lists.path(before).name}")
            )

    def _verify_before(self, found: Verified, name: str, line: Line, *, is_first: bool) -> None:
        digest = self._digest(found, line.path)
        # The oldest list that is left names one whose time was over.
        if digest is None and not is_first:
            found.faults.append(Fault(line.path, f"is missing, and {name} names it"))
        elif digest not in (None, line.sha256):
            found.faults.append(Fault(line.path, f"was altered: it is not the list that {name} names"))

    def _verify_file(self, found: Verified, line: Line, on_disk: Counter[str]) -> None:
        digest = self._digest(found, line.path)
        if digest is None:
            state = self._explained(line)
        else:
            state = "sound" if digest == line.sha256 else "altered"
            on_disk[line.day] += 1
        found.files[state] += 1
        if state == "altered":
            found.faults.append(Fault(line.path, "was altered: its digest is not the one in the list"))
        elif state == "missing":
            found.faults.append(Fault(line.path, "is missing: neither erased, nor expired, nor put back"))

    def _digest(self, found: Verified, path: str) -> str | None:
        if ".." in PurePosixPath(path).parts or path.startswith("/"):
            found.faults.append(Fault(path, "leads out of done/: no list of ours names it"))
            return None
        try:
            return digest_of_file(self._lists.root / path)
        except OSError as error:
            found.faults.append(Fault(path, f"cannot be read: {error.strerror}"))
            return None

    def _explained(self, line: Line) -> str:
        """Where a listed file went that is not there."""
        if line.path.endswith(EXPIRED_SUFFIX) or self._is_expired(line.day):
            return "expired"
        if self._erased(line):
            return "erased"
        entry = Entry(line.day, PurePosixPath(line.path).name)
        if any(_is_same(self._spool.path(folder, entry), line.sha256) for folder in _ELSEWHERE):
            return "elsewhere"
        # Perhaps it came back while it was looked for.
        return "sound" if _is_same(self._lists.root / line.path, line.sha256) else "missing"

    def _is_expired(self, day: str) -> bool:
        """Whether retention has deleted a day, be it since this began: it notes that before it begins."""
        if day not in self._expired and (self._lists.root / f"{day}{EXPIRED_SUFFIX}").exists():
            self._expired.add(day)
        return day in self._expired

    def _erased(self, line: Line) -> bool:
        note = self._lists.root / (line.path.removesuffix(".json") + ERASED_SUFFIX)
        try:
            value = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(value, dict) and value.get("sha256") == line.sha256


def _is_same(path: Path, sha256: str) -> bool:
    try:
        return digest_of_file(path) == sha256
    except OSError:
        return False


def unlisted_days(spool: Spool) -> list[str]:
    """Days before yesterday in `done/` that have files and no list covers yet: the processor makes them.

    Raises:
        SpoolUnavailableError: `done/` cannot be listed.
    """
    newest = max(DayLists(spool).days(), default="")
    yesterday = (spool.clock.today() - timedelta(days=1)).isoformat()
    return [day for day in spool.days(Folder.DONE) if newest < day < yesterday]
