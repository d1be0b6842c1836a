"""Lists of digests that prove what lay in `done/`: one a day, each with the digest of the one before.

`done/<day>.sha256` has the form of `sha256sum`. It names what lay in `done/` after the end of that day and
was in no list before: the day's own files, those of earlier days that were finished late, and what explains
why files are gone. A list is never written again, so the newest vouches for all of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import structlog

from shared.names import day_of
from shared.spool import Folder, Spool, sync_folder, unavailable

log = structlog.get_logger()

LIST_SUFFIX = ".sha256"
EXPIRED_SUFFIX = ".expired"
"""`done/<day>.expired` says that retention has deleted the day."""
ERASED_SUFFIX = ".erased"
"""`done/<day>/<entry without .json>.erased` says that a file was erased on request."""

_DAY = timedelta(days=1)
# What is settled in the last moment of a day should stand in the list of that day.
_AFTER_MIDNIGHT = timedelta(minutes=5)
# For a clock that was set back a little meanwhile.
_SLACK = timedelta(hours=1)
_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)")
_LISTED_AT = re.compile(r"# signspool: .* listed (\S+)")
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
_PAUSE_EVERY_FILES = 200
_TEMPORARY = ".list.tmp"
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list: a digest in hex, and a path under `done/`."""

    sha256: str
    path: str

    @property
    def day(self) -> str:
        """The day folder that the path leads into; empty for what lies right in `done/`."""
        return self.path.partition("/")[0] if "/" in self.path else ""

    def to_bytes(self) -> bytes:
        """The line as `sha256sum` writes it."""
        name = os.fsencode(self.path)
        escaped = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], name)
        return b"%b%b  %b\n" % (b"\\" if escaped != name else b"", self.sha256.encode(), escaped)


def parse_line(data: bytes) -> Line:
    """Read one line of a list.

    Raises:
        ValueError: it is none.
    """
    found = _LINE.fullmatch(data.removesuffix(b"\n"))
    if found is None:
        raise ValueError("not a line of sha256sum")
    mark, digest, name = found.groups()
    if mark:
        plain = {escaped: char for char, escaped in _ESCAPES.items()}
        name = re.sub(rb"\\[\\nr]", lambda escape: plain[escape[0]], name)
    return Line(digest.decode(), os.fsdecode(name))


class DayLists:
    """The lists of one spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.root = spool.folder(Folder.DONE)

    # Reading

    def days(self) -> list[str]:
        """The days that have a list, oldest first.

        Raises:
            SpoolUnavailableError: `done/` cannot be listed.
        """
        return sorted(name.removesuffix(LIST_SUFFIX) for name in self._right_in_done(LIST_SUFFIX))

    def path(self, day: str) -> Path:
        """Where the list of a day lies, or would lie."""
        return self.root / f"{day}{LIST_SUFFIX}"

    def lines(self, day: str) -> Iterator[bytes]:
        """The lines of a list, without its comments.

        Raises:
            SpoolUnavailableError: it cannot be read.
        """
        with unavailable(f"read {self.path(day)}", gone_too=True), self.path(day).open("rb") as file:
            yield from (line for line in file if not line.startswith(b"#"))

    def expired(self) -> list[str]:
        """The days that retention has deleted, as far as that is still remembered."""
        return sorted(name.removesuffix(EXPIRED_SUFFIX) for name in self._right_in_done(EXPIRED_SUFFIX))

    def _right_in_done(self, suffix: str) -> list[str]:
        with unavailable(f"list {Folder.DONE}/", gone_too=True), os.scandir(self.root) as found:
            return [
                item.name
                for item in found
                if item.name.endswith(suffix) and day_of(item.name.removesuffix(suffix))
            ]

    # Making

    def make(self, stop: threading.Event) -> list[str]:
        """Make the lists that are missing up to yesterday's, or until told to stop; returns their days.

        Raises:
            SpoolUnavailableError: one cannot be written.
        """
        now = self._spool.clock.local()
        yesterday = ((now - _AFTER_MIDNIGHT).date() - _DAY).isoformat()
        listed = self.days()
        newest = listed[-1] if listed else ""
        if newest >= yesterday:
            return []
        own = [day for day in reversed(self._spool.days(Folder.DONE)) if newest < day < yesterday]
        made: list[str] = []
        for day in (*own, yesterday):
            late = self._late(newest, listed) if day == yesterday and newest else ()
            if self._write(day, chain(self.names_in(day), late), made[-1] if made else newest, stop):
                made.append(day)
            if stop.is_set():
                break
        return made

    def names_in(self, day: str) -> Iterator[str]:
        """The paths of a day's plain files, under `done/`."""
        path = self.root / day
        with suppress(FileNotFoundError), unavailable(f"list {path}"), os.scandir(path) as found:
            for item in found:
                if not item.name.startswith(".") and item.is_file(follow_symlinks=False):
                    yield f"{day}/{item.name}"

    def _late(self, newest: str, listed: Collection[str]) -> set[str]:
        """What has come, since the newest list, into days that have theirs, and what explains missing files.

        A file that was renamed into its folder bears the time of that, so only such few are looked for in the
        older lists.
        """
        since = self._listed_at(newest) - _SLACK
        days = [day for day in self._spool.days(Folder.DONE) if day <= newest and self._changed(day) >= since]
        names = [path for day in days for path in self.names_in(day) if self._changed(path) >= since]
        found = {
            *names,
            *(name for name in self._right_in_done(EXPIRED_SUFFIX) if self._changed(name) >= since),
        }
        first = min([*days, since.date().isoformat()])
        for day in listed:
            if found and day >= first:
                found -= {path for line in self.lines(day) if (path := path_in(line)) in found and path}
        return found

    def _listed_at(self, day: str) -> datetime:
        """When a list was made; the beginning of time when it does not say so."""
        with unavailable(f"read {self.path(day)}", gone_too=True), self.path(day).open("rb") as file:
            found = _LISTED_AT.match(file.readline(200).decode("utf-8", "replace"))
        try:
            return datetime.fromisoformat(found[1]) if found else _EVER
        except ValueError:
            return _EVER

    def _changed(self, name: str) -> datetime:
        """When a file was renamed to where it lies, or a folder's content changed."""
        try:
            return datetime.fromtimestamp((self.root / name).lstat().st_ctime, UTC)
        except FileNotFoundError:
            return _EVER

    def _write(self, day: str, paths: Iterable[str], before: str, stop: threading.Event) -> bool:
        """Write the list of a day; False when there is nothing to be listed, or when told to stop."""
        # Taken before anything is looked at: what comes meanwhile counts as come afterwards.
        listed_at = self._spool.clock.local().isoformat(timespec="seconds")
        temporary, count = self.root / _TEMPORARY, 0
        with unavailable(f"write the list of {day}", gone_too=True):
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:
                file.write(f"# signspool: {Folder.DONE}/ after {day}, listed {listed_at}\n".encode())
                if before and (digest := digest_of_file(self.path(before))) is not None:
                    file.write(Line(digest, self.path(before).name).to_bytes())
                for line in self._hashed(paths, stop):
                    file.write(line.to_bytes())
                    count += 1
                # Nobody shall change it.
                os.fchmod(file.fileno(), 0o440)
                file.flush()
                os.fsync(file.fileno())
            if stop.is_set() or not count:
                temporary.unlink()
                return False
            temporary.rename(self.path(day))
            sync_folder(self.root)
        log.info("evidence.listed", day=day, files=count, list_sha256=digest_of_file(self.path(day)))
        return True

    def _hashed(self, paths: Iterable[str], stop: threading.Event) -> Iterator[Line]:
        """The lines of files, as far as they are still there; half of the time is left to others."""
        started = time.monotonic()
        for number, path in enumerate(paths, 1):
            if stop.is_set():
                return
            try:
                digest = digest_of_file(self.root / path)
            except OSError as error:
                # One bad file must not keep all the others without proof.
                log.warning("evidence.unreadable", path=path, reason=error.strerror)
                continue
            if digest is not None:
                yield Line(digest, path)
            if number % _PAUSE_EVERY_FILES == 0:
                stop.wait(time.monotonic() - started)
                started = time.monotonic()


def path_in(line: bytes) -> str | None:
    """The path in a line of a list; None when it is none."""
    try:
        return parse_line(line).path
    except ValueError:
        return None


def digest_of_file(path: Path) -> str | None:
    """The SHA-256 of a plain file in hex; None when there is none of this name.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return hashlib.file_digest(file, "sha256").hexdigest()
