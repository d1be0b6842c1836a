"""Brings a group of new files to disk together, so that they share the syncs.

Write every file under `.tmp/`, sync what was written, rename all of them into their day folders, sync those
folders. A failure leaves nothing visible, and a file whose sync failed is given up for good: the kernel may
have dropped its pages, and a second sync would lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.disk import can_sync_file_system, sync_file_system
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool, make_folder, sync_folder

SMALLEST_SHARED_SYNC = 4
"""Files from which on one sync of the whole file system is quicker than one sync for each; measured."""

_FILE_MODE = 0o640
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(slots=True)
class NewFile:
    """One file to be brought to disk; `error` says afterwards why it was not."""

    folder: Folder
    entry: Entry
    data: bytes
    durable: bool = True
    error: SpoolUnavailableError | None = None
    is_written: bool = False
    """Whether something of it may lie under `.tmp/`."""


@dataclass(slots=True)
class _DayFolder:
    """An open folder, remembered by device and inode, since a path may come to mean another one."""

    path: Path
    descriptor: int
    is_synced: bool = False
    """Whether its own entry in its parent is on disk."""
    syncs_whole: bool = field(init=False)
    _identity: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        status = os.fstat(self.descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self.syncs_whole = can_sync_file_system(self.descriptor)

    def is_current(self) -> bool:
        """Whether the path still leads to this very folder."""
        try:
            status = os.stat(self.path)  # noqa: PTH116  (on the way of every group, and half as long)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._identity


class GroupCommit:
    """The open folders through which one writer, a thread or a process, puts files into its spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folders: dict[tuple[Folder, str], _DayFolder] = {}
        self._home: Path | None = None
        self._home_descriptor = -1

    def commit(self, files: Sequence[NewFile]) -> None:
        """Bring the files to disk; what failed carries its error and has left nothing behind.

        All files of one day folder fail when a sync fails, since nobody can tell which of them it was; and
        when an error comes that nobody foresaw. No error gets out, so that whoever waits hears of it.
        """
        by_folder: dict[tuple[Folder, str], list[NewFile]] = {}
        for file in files:
            by_folder.setdefault((file.folder, file.entry.day), []).append(file)
        for (folder, day), group in by_folder.items():
            try:
                durable = any(file.durable for file in group)
                self._commit_to(self._day_folder(folder, day, durable=durable), group)
            except Exception as error:  # noqa: BLE001  (the writer lives on)
                self._give_up(group, error)
                # The next group begins with folders opened anew: after a remount the old ones may lead
                # to another place than their paths.
                self.close()

    def _give_up(self, files: Sequence[NewFile], error: Exception) -> None:
        """Mark files as failed, and remove what lies of them under `.tmp/`."""
        failure = _not_stored(error)
        for file in files:
            file.error = file.error or failure
            if file.is_written and self._home_descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(file.entry.name, dir_fd=self._home_descriptor)

    def close(self) -> None:
        """Let go of every folder; the next group opens them again."""
        for folder, day in list(self._folders):
            self._forget(folder, day)
        self._leave_home()

    def _commit_to(self, target: _DayFolder, group: Sequence[NewFile]) -> None:
        home = self._enter_home()
        durable = any(file.durable for file in group)
        shared_sync = durable and target.syncs_whole and len(group) >= SMALLEST_SHARED_SYNC
        each_syncs = durable and not shared_sync
        for file in group:
            try:
                _write(home, file, sync=file.durable and each_syncs)
            except SpoolUnavailableError as error:
                self._give_up([file], error)
        written = [file for file in group if file.error is None]
        if shared_sync:
            sync_file_system(target.descriptor)
        self._place(home, target, written)

    def _place(self, home: int, target: _DayFolder, files: Sequence[NewFile]) -> None:
        """Rename written files to where everybody sees them, durably or not at all."""
        placed = []
        try:
            for file in files:
                name = file.entry.name
                # Relative to open folders, so that no path can change its meaning meanwhile.
                os.rename(name, name, src_dir_fd=home, dst_dir_fd=target.descriptor)
                placed.append(name)
            if any(file.durable for file in files):
                os.fsync(target.descriptor)
        except Exception:
            for name in placed:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=target.descriptor)
            raise

    # Folders

    def _day_folder(self, folder: Folder, day: str, *, durable: bool) -> _DayFolder:
        """The open day folder; one that is new, or was replaced, is synced into its parent first."""
        found = self._folders.get((folder, day))
        if found is not None and not found.is_current():
            self._forget(folder, day)
            found = None
        if found is None:
            found = self._open(self._spool.folder(folder) / day)
            self._drop_old_folders(folder)
            self._folders[folder, day] = found
        if durable and not found.is_synced:
            sync_folder(found.path.parent)
            found.is_synced = True
        return found

    def _open(self, path: Path) -> _DayFolder:
        self._spool.id()  # Refuses a bare mount point, where a folder would be made on the wrong disk.
        make_folder(path)
        return _DayFolder(path, os.open(path, _OPEN_FOLDER))

    def _drop_old_folders(self, folder: Folder) -> None:
        """Keep at most two days open for each folder: around midnight both are in use."""
        days = sorted(day for kind, day in self._folders if kind is folder)
        for day in days[:-1]:
            self._forget(folder, day)

    def _forget(self, folder: Folder, day: str) -> None:
        _close(self._folders.pop((folder, day)).descriptor)

    def _enter_home(self) -> int:
        """The writer's own folder under `.tmp/`, locked for as long as the process lives."""
        # Right before it is locked, another writer that starts may take it for a dead one's and remove it.
        while self._home is None or not self._home.exists():
            self._leave_home()
            self._home = self._spool.temporary / str(uuid.uuid4())
            self._home.mkdir(mode=0o750, parents=True)
            self._home_descriptor = os.open(self._home, _OPEN_FOLDER)
            fcntl.flock(self._home_descriptor, fcntl.LOCK_EX)
        return self._home_descriptor

    def _leave_home(self) -> None:
        if self._home_descriptor >= 0:
            _close(self._home_descriptor)
            self._home_descriptor = -1
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def _write(home: int, file: NewFile, *, sync: bool) -> None:
    """Write one file.

    Raises:
        SpoolUnavailableError: it cannot be made or written, which is its own trouble.
        OSError: it cannot be synced, which is everybody's.
    """
    try:
        descriptor = os.open(file.entry.name, _CREATE, _FILE_MODE, dir_fd=home)
    except OSError as error:
        raise _not_stored(error) from error
    file.is_written = True
    try:
        try:
            written_bytes = os.write(descriptor, file.data)
        except OSError as error:
            raise _not_stored(error) from error
        if written_bytes != len(file.data):
            raise SpoolUnavailableError("cannot store the callback: the disk took only a part of it")
        if sync:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _close(folder: int) -> None:
    # What closing a folder may complain of is no news: its syncs have told already.
    with contextlib.suppress(OSError):
        os.close(folder)


def _not_stored(error: Exception) -> SpoolUnavailableError:
    if isinstance(error, SpoolUnavailableError):
        return error
    if isinstance(error, OSError):
        return SpoolUnavailableError(f"cannot store the callback: {error.strerror or error}")
    return SpoolUnavailableError(f"cannot store the callback: unexpected {type(error).__name__}: {error}")


def remove_leftovers(temporary: Path) -> None:
    """Remove the folders of writers that are dead, which is to say whose lock can be had."""
    try:
        homes = list(temporary.iterdir())
    except OSError:
        return  # No spool yet, or its volume is away: whoever writes first will say so.
    for home in homes:
        try:
            descriptor = os.open(home, _OPEN_FOLDER | os.O_NOFOLLOW)
        except OSError:
            continue  # Not a writer's folder.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(home, ignore_errors=True)
        finally:
            os.close(descriptor)
