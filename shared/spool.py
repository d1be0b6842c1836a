"""The spool: folders of callbacks, one file each. The folder is the state, and a file is never rewritten.

`Spool` is for whoever looks into the folders and moves files; `shared.commit` puts new files in.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from shared.clock import Clock
from shared.errors import SpoolUnavailableError
from shared.masking import mask_all
from shared.names import day_of

MARKER = ".signspool"
"""The file that tells a spool's volume from a bare mount point."""

REASON_SUFFIX = ".reason.json"
MAX_ENTRY_BYTES = 256 * 1024 * 1024
"""A larger file is not read; no door with sensible limits writes one."""

_FOLDER_MODE = 0o750
_PIECE_BYTES = 1024 * 1024
_LONGEST_STEM_BYTES = 200
_MOST_RENAMES = 5
# A file system may know no hard links; then a rename is the next best thing.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Folder(StrEnum):
    """The folders under the root; all on one file system."""

    SPOOL = "spool"
    DEFERRED = "deferred"
    DONE = "done"
    QUARANTINE = "quarantine"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file: its day folder (`aaaa-mm-dd`) and its name. The day is empty for a file that a person put
    right into `spool/`."""

    day: str
    name: str


class UnreadableError(ValueError):
    """The file cannot be an entry; the message says why."""


class Spool:
    """The folders of one root."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root
        self._root = os.fspath(root)
        self.clock = clock
        self.temporary = root / ".tmp"
        self.files = root / "files"
        """Where fetched signed files lie until they are delivered."""

    # Setting up

    def initialise(self) -> str:
        """Make root, folders and marker where they are missing, durably; returns the spool's id.

        Raises:
            SpoolUnavailableError: the root cannot be made or written.
        """
        with unavailable("make the spool"):
            missing = [folder for folder in self.root.parents if not folder.exists()]
            for folder in (self.root, *map(self.folder, Folder), self.temporary, self.files):
                folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            marker = self.root / MARKER
            if not marker.exists():
                content = {"spool": str(uuid.uuid4()), "made": self.clock.local().isoformat()}
                # Of two at once the second takes the id of the first, which may be at work by it already.
                write_small(marker, json.dumps(content) + "\n", over_another=False)
            # From the root up: each folder that was made needs its own name synced into the one above.
            for folder in (self.root, self.root.parent, *(folder.parent for folder in missing)):
                sync_folder(folder)
        return self.id()

    def id(self) -> str:
        """The id in the marker file.

        Raises:
            SpoolUnavailableError: no marker: not a spool, or its volume is not mounted.
        """
        try:
            value = json.loads((self.root / MARKER).read_text())
            return str(value["spool"])
        except FileNotFoundError:
            raise SpoolUnavailableError(
                f"{self.root} is not a spool, or its volume is not mounted: "
                "mount it, or make a new spool with: signspool check --init-spool"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpoolUnavailableError(f"the marker file {MARKER} cannot be read: {error}") from error

    def make_day_folders(self) -> None:
        """Make today's and tomorrow's folder under `spool/`, since a watcher can miss the first file of a
        folder that is made together with it; and `spool/` itself, should somebody have moved it away.

        Raises:
            SpoolUnavailableError: they cannot be made, or the volume is not mounted.
        """
        top = self.folder(Folder.SPOOL)
        with unavailable("make the day folders", gone_too=True):
            if not top.exists():
                self.id()  # Refuses a bare mount point, where it would be made on the wrong disk.
                make_folder(top)
                sync_folder(self.root)
            for day in (self.clock.today(), self.clock.today() + timedelta(days=1)):
                make_folder(top / day.isoformat())

    # Looking

    def folder(self, folder: Folder) -> Path:
        """The path of a folder."""
        return self.root / folder

    def path(self, folder: Folder, entry: Entry) -> Path:
        """Where an entry lies, or would lie."""
        return Path(self._place(folder, entry))

    def _place(self, folder: Folder, entry: Entry) -> str:
        # As text: it is needed several times for every entry, and a `Path` is dear to put together.
        day = f"{entry.day}/" if entry.day else ""
        return f"{self._root}/{folder}/{day}{entry.name}"

    def days(self, folder: Folder) -> list[str]:
        """The day folders that exist, newest first."""
        with unavailable(f"list {folder}/"):
            try:
                with os.scandir(self.folder(folder)) as found:
                    names = [item.name for item in found if day_of(item.name) and item.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(names, reverse=True)

    def entries(self, folder: Folder) -> Iterator[Entry]:
        """Every entry of a folder, newest day first, in no order within a day; memory stays flat.

        Names that begin with a dot, that do not end in `.json`, or that are reason files are no entries.

        Raises:
            SpoolUnavailableError: the folder cannot be listed.
        """
        for day in ("", *self.days(folder)):
            try:
                with unavailable(f"list {folder}/{day}"), os.scandir(self.folder(folder) / day) as found:
                    for item in found:
                        if is_entry_name(item.name) and not item.is_dir(follow_symlinks=False):
                            yield Entry(day, item.name)
            except FileNotFoundError:
                continue

    def has(self, folder: Folder, entry: Entry) -> bool:
        """Whether an entry lies in a folder.

        Raises:
            SpoolUnavailableError: that cannot be seen, as in a day folder whose rights somebody changed.
        """
        path = self._place(folder, entry)
        with unavailable(f"look for {path}"):
            return _exists(path)

    def read(self, folder: Folder, entry: Entry) -> bytes:
        """The content of an entry.

        Raises:
            FileNotFoundError: somebody took it away.
            UnreadableError: not a plain file, or too large.
            SpoolUnavailableError: the disk failed.
        """
        path = self._place(folder, entry)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise UnreadableError("not a plain file") from None
            if error.errno in (errno.EACCES, errno.EPERM):
                raise UnreadableError("no permission to read it: give the service user access") from None
            if error.errno == errno.ENOENT:
                raise
            raise SpoolUnavailableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("not a plain file")
            if status.st_size > MAX_ENTRY_BYTES:
                raise UnreadableError(f"larger than {MAX_ENTRY_BYTES} bytes")
            with unavailable(f"read {path}"):
                return _read_to_end(descriptor, status.st_size)
        finally:
            os.close(descriptor)

    def age_seconds(self, folder: Folder, entry: Entry) -> float:
        """Seconds between now and the last change of an entry's file, which may lie in the future when it was
        copied with its time; 0 when it is gone.

        Raises:
            SpoolUnavailableError: the disk failed.
        """
        path = self.path(folder, entry)
        try:
            with unavailable(f"look at {path}"):
                return abs(self.clock.now().timestamp() - path.lstat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def find(self, text: str) -> list[tuple[Folder, Entry]]:
        """Entries of any folder whose name is, or contains, a text: a file name, a guid, an id."""
        return [(folder, entry) for folder in Folder for entry in self.entries(folder) if text in entry.name]

    # Moving

    def move(self, entry: Entry, source: Folder, target: Folder) -> Entry | None:
        """Rename an entry into another folder, same day; returns it as it is named there, None if it is gone.

        A different file of the same name is never replaced: the moved one gets a number. Not synced: after
        a power cut the file may be back, and is then handled again without effect.

        Raises:
            SpoolUnavailableError: the rename failed.
        """
        moved = entry if entry.day else Entry(self.clock.today().isoformat(), entry.name)
        path = self._place(source, entry)
        with unavailable(f"move {path} to {target}/"):
            number = 0
            while _exists(place := self._place(target, moved)) and not _same_file(path, place):
                number += 1
                moved = Entry(moved.day, f"{entry.name.removesuffix('.json')}.{number}.json")
            for _ in range(_MOST_RENAMES):
                if _rename(path, place):
                    self._forget_reason(source, entry)
                    return moved
                if not _exists(path):
                    return None
                # The day folder is missing; one that is empty may be taken away again right after it is made.
                self._make_day_folder(target, moved.day)
        raise SpoolUnavailableError(f"cannot move {path}: {target}/{moved.day} goes as often as it is made")

    def _make_day_folder(self, folder: Folder, day: str) -> None:
        try:
            make_folder(self.folder(folder) / day)
        except FileNotFoundError:
            # Not to be taken for an entry that is gone.
            raise SpoolUnavailableError(
                f"{folder}/ is missing in the spool: make it with signspool check --init-spool"
            ) from None

    def remove(self, entry: Entry, folder: Folder) -> bool:
        """Delete an entry; False when it is gone already.

        Raises:
            SpoolUnavailableError: it cannot be deleted.
        """
        with unavailable(f"delete {entry.name}"):
            was_there = _remove(self._place(folder, entry))
        self._forget_reason(folder, entry)
        return was_there

    def quarantine(self, entry: Entry, source: Folder, reason: Mapping[str, Any]) -> Entry | None:
        """Move an entry to `quarantine/` and lay `<name>.reason.json` beside it.

        No secret and no number of a person stands in that.

        Raises:
            SpoolUnavailableError: it cannot be moved.
        """
        moved = self.move(entry, source, Folder.QUARANTINE)
        if moved is not None:
            content = {"since": self.clock.local().isoformat(), "from": source, **mask_all(dict(reason))}
            with unavailable("write the reason", gone_too=True):
                write_small(Path(self._reason_path(moved)), json.dumps(content, indent=2) + "\n")
        return moved

    def reason(self, entry: Entry) -> dict[str, Any] | None:
        """What stands in the reason file of a quarantined entry; None without a readable one."""
        try:
            value = json.loads(Path(self._reason_path(entry)).read_text())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def quarantined_at(self, entry: Entry) -> float:
        """When an entry came to quarantine, as Unix time: when its reason was written, else when its file was
        moved there.

        Raises:
            FileNotFoundError: it is gone.
        """
        try:
            return os.stat(self._reason_path(entry)).st_mtime  # noqa: PTH116  (see `Spool._place`)
        except FileNotFoundError:
            return os.lstat(self._place(Folder.QUARANTINE, entry)).st_ctime

    def forget_reason(self, entry: Entry) -> None:
        """Remove a reason file whose entry a person has moved out of quarantine.

        Raises:
            SpoolUnavailableError: it cannot be removed.
        """
        with unavailable("remove a reason"):
            _remove(self._reason_path(entry))

    def orphaned_reasons(self, day: str) -> list[str]:
        """The reasons of a day of `quarantine/` whose entry is gone, as paths under the root.

        Raises:
            OSError: the day cannot be listed.
        """
        names = os.listdir(self.folder(Folder.QUARANTINE) / day)  # noqa: PTH208  (names are all that is needed)
        taken = {self._reason_name(name) for name in names if is_entry_name(name)}
        return [
            f"{Folder.QUARANTINE}/{day}/{name}"
            for name in sorted(names)
            if name.endswith(REASON_SUFFIX) and name not in taken
        ]

    def _forget_reason(self, folder: Folder, entry: Entry) -> None:
        if folder is Folder.QUARANTINE:
            self.forget_reason(entry)

    def _reason_path(self, entry: Entry) -> str:
        return self._place(Folder.QUARANTINE, Entry(entry.day, self._reason_name(entry.name)))

    @staticmethod
    def _reason_name(name: str) -> str:
        stem = name.removesuffix(".json")
        if len(os.fsencode(stem)) > _LONGEST_STEM_BYTES:
            # A name that a person chose may leave no room for the ending.
            digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]
            stem = f"{stem[:40]}-{digest}"
        return stem + REASON_SUFFIX


class unavailable:  # noqa: N801  (it reads as a word: `with unavailable("list spool/"):`)
    """Turns every `OSError` into `SpoolUnavailableError`, saying what was tried.

    A `FileNotFoundError` is left to whoever expects that another hand took the thing away; with `gone_too`,
    for what nobody but us takes away, it is as bad as any other.
    """

    def __init__(self, what: str, *, gone_too: bool = False) -> None:
        self._what = what
        self._gone_too = gone_too

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and (self._gone_too or not isinstance(error, FileNotFoundError)):
            raise SpoolUnavailableError(f"cannot {self._what}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder whose parent exists; no error when it is there."""
    path.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Bring a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_small(path: Path, text: str, *, over_another: bool = True) -> None:
    """Write a small file so that it is either whole or not there at all; one that is there already is
    replaced, or left as it is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if not over_another:
        try:
            path.hardlink_to(temporary)
        except OSError as error:
            if error.errno not in (errno.EEXIST, *_NO_LINKS):
                raise
            over_another = error.errno in _NO_LINKS
    temporary.rename(path) if over_another else temporary.unlink()


def is_entry_name(name: str) -> bool:
    """Whether a file of this name is an entry: `.json`, not hidden, and no reason file."""
    return name.endswith(".json") and not name.startswith(".") and not name.endswith(REASON_SUFFIX)


def _exists(path: str) -> bool:
    """Whether anything has this name, a link that leads nowhere too: a rename would replace it."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _rename(path: str, place: str) -> bool:
    """Rename; False when the file, or the folder that it should go to, is missing."""
    try:
        os.rename(path, place)  # noqa: PTH104  (see `Spool._place`)
    except FileNotFoundError:
        return False
    return True


def _remove(path: str) -> bool:
    """Delete a file; False when it is gone already."""
    try:
        os.unlink(path)  # noqa: PTH108  (see `Spool._place`)
    except FileNotFoundError:
        return False
    return True


def _read_to_end(descriptor: int, size_bytes: int) -> bytes:
    """The content of a file, which as a rule is as large as it was said to be."""
    content = os.read(descriptor, size_bytes + 1)
    if len(content) == size_bytes:
        return content
    pieces = [content]
    while piece := os.read(descriptor, _PIECE_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).read_bytes() == Path(other).read_bytes()
    except FileNotFoundError:
        return False
