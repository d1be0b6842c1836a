"""Puts new files into the spool, durably, many at a time: the group commit.

Files that are handed over while a group is being synced make up the next group; a lone one waits for nobody.
For each group: write every file under `.tmp/`, sync it, rename all of them into their day folders, sync those
folders. Only then is anybody told. A failure leaves nothing visible, and a file whose sync failed is given up
for good: the kernel may have dropped its pages, and a second sync would lie.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool, make_folder, sync_folder, unavailable

_FILE_MODE = 0o640


@dataclass(slots=True)
class _Order:
    """One file to be written. `tell` is called once, on the writer's thread, with None or the error."""

    folder: Folder
    entry: Entry
    data: bytes
    tell: Callable[[SpoolUnavailableError | None], None]
    durable: bool
    temporary: str = ""
    error: SpoolUnavailableError | None = None


@dataclass(slots=True)
class _DayFolder:
    """An open folder, remembered by device and inode, since a path may come to mean another one."""

    path: Path
    descriptor: int
    identity: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        status = os.fstat(self.descriptor)
        self.identity = (status.st_dev, status.st_ino)

    def is_current(self) -> bool:
        """Whether the path still leads to this very folder."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.identity


class SpoolWriter:
    """The one thread through which a process puts files into its spool."""

    def __init__(self, spool: Spool, *, durable: bool = True) -> None:
        self._spool = spool
        self._durable = durable
        self._orders: list[_Order] = []
        self._wake = threading.Condition()
        self._closing = False
        self._folders: dict[tuple[Folder, str], _DayFolder] = {}
        self._home: Path | None = None
        self._home_descriptor = -1
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Begin; clears away what writers that died have left under `.tmp/`."""
        remove_leftovers(self._spool.temporary)
        self._thread.start()

    def close(self) -> None:
        """Write what was handed over, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        for folder in self._folders.values():
            os.close(folder.descriptor)
        self._folders.clear()
        self._leave_home()

    async def write(
        self, folder: Folder, name: str, data: bytes, received_at: datetime, *, durable: bool = True
    ) -> Entry:
        """Put one file into the day folder of its time; returns when it is safe.

        Raises:
            SpoolUnavailableError: it could not be stored, and nothing of it is left.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: SpoolUnavailableError | None) -> None:
            if done.done():
                return  # The request was given up meanwhile; the file is then one repeat more.
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def tell(error: SpoolUnavailableError | None) -> None:
            # A loop that is closed already has nobody left who waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, error)

        entry = Entry(self._spool.clock.local(received_at).date().isoformat(), name)
        self.submit(folder, entry, data, tell, durable=durable)
        await done
        return entry

    def submit(
        self,
        folder: Folder,
        entry: Entry,
        data: bytes,
        tell: Callable[[SpoolUnavailableError | None], None],
        *,
        durable: bool = True,
    ) -> None:
        """Hand a file over; `tell` is called from the writer's thread when it is safe or has failed.

        Raises:
            SpoolUnavailableError: the writer is closed.
        """
        order = _Order(folder, entry, data, tell, durable and self._durable)
        with self._wake:
            if self._closing:
                raise SpoolUnavailableError("the service is stopping")
            self._orders.append(order)
            self._wake.notify()

    # On the writer's thread

    def _run(self) -> None:
        while group := self._take():
            try:
                self._commit(group)
            except Exception as error:  # noqa: BLE001  (whoever waits must hear of it, and the thread live on)
                for order in group:
                    self._give_up(order, error)
            for order in group:
                order.tell(order.error)

    def _take(self) -> list[_Order]:
        """Everything handed over so far, at least one; empty when it is time to stop."""
        with self._wake:
            while not self._orders and not self._closing:
                self._wake.wait()
            group, self._orders = self._orders, []
            return group

    def _commit(self, group: list[_Order]) -> None:
        """Bring a group to disk; what failed carries its error and has left nothing behind."""
        by_folder: dict[tuple[Folder, str], list[_Order]] = {}
        for order in group:
            by_folder.setdefault((order.folder, order.entry.day), []).append(order)
        for (folder, day), orders in by_folder.items():
            try:
                with unavailable("store the callback"):
                    self._commit_folder(self._day_folder(folder, day), orders)
            except (SpoolUnavailableError, FileNotFoundError) as error:
                self._forget(folder, day)
                for order in orders:
                    self._give_up(order, error)
                # The next group begins with folders opened anew: after a remount the old ones may lead
                # to another place than their paths.
                self._leave_home()

    def _commit_folder(self, target: _DayFolder, orders: list[_Order]) -> None:
        home = self._enter_home()
        for order in orders:
            try:
                with unavailable("store the callback"):
                    self._write_temporary(home, order)
            except SpoolUnavailableError as error:
                self._give_up(order, error)
        placed = []
        try:
            for order in orders:
                if order.error is None:
                    # Relative to open folders, so that no path can change its meaning meanwhile.
                    os.rename(
                        order.temporary, order.entry.name, src_dir_fd=home, dst_dir_fd=target.descriptor
                    )
                    placed.append(order)
            if any(order.durable for order in placed):
                os.fsync(target.descriptor)
        except OSError:
            for order in placed:
                with contextlib.suppress(OSError):
                    os.unlink(order.entry.name, dir_fd=target.descriptor)
            raise

    def _write_temporary(self, home: int, order: _Order) -> None:
        order.temporary = order.entry.name
        descriptor = os.open(
            order.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE, dir_fd=home
        )
        try:
            if os.write(descriptor, order.data) != len(order.data):
                raise SpoolUnavailableError("cannot store the callback: the disk took only a part of it")
            if order.durable:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _give_up(self, order: _Order, error: Exception) -> None:
        if isinstance(error, SpoolUnavailableError):
            order.error = order.error or error
        else:
            order.error = order.error or SpoolUnavailableError(f"cannot store the callback: {error}")
        if order.temporary and self._home_descriptor >= 0:
            with contextlib.suppress(OSError):
                os.unlink(order.temporary, dir_fd=self._home_descriptor)

    # Folders

    def _day_folder(self, folder: Folder, day: str) -> _DayFolder:
        """The open day folder; one that is new, or was replaced, is synced into its parent first."""
        known = self._folders.get((folder, day))
        if known is not None:
            if known.is_current():
                return known
            self._forget(folder, day)
        self._spool.id()  # Refuses a bare mount point, where a folder would be made on the wrong disk.
        path = self._spool.folder(folder) / day
        make_folder(path)
        if self._durable:
            sync_folder(path.parent)
        opened = _DayFolder(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._drop_old_folders(folder)
        self._folders[folder, day] = opened
        return opened

    def _drop_old_folders(self, folder: Folder) -> None:
        """Keep at most two days open for each folder: around midnight both are in use."""
        days = sorted(day for kind, day in self._folders if kind is folder)
        for day in days[:-1]:
            self._forget(folder, day)

    def _forget(self, folder: Folder, day: str) -> None:
        if (known := self._folders.pop((folder, day), None)) is not None:
            os.close(known.descriptor)

    def _enter_home(self) -> int:
        """The writer's own folder under `.tmp/`, locked for as long as the process lives."""
        if self._home is not None and self._home.exists():
            return self._home_descriptor
        self._leave_home()
        self._home = self._spool.temporary / str(uuid.uuid4())
        self._home.mkdir(mode=0o750, parents=True)
        self._home_descriptor = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._home_descriptor, fcntl.LOCK_EX)
        return self._home_descriptor

    def _leave_home(self) -> None:
        if self._home_descriptor >= 0:
            os.close(self._home_descriptor)
            self._home_descriptor = -1
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def remove_leftovers(temporary: Path) -> None:
    """Remove the folders of writers that are dead, which is to say whose lock can be had."""
    try:
        homes = list(temporary.iterdir())
    except OSError:
        return  # No spool yet, or its volume is away: whoever writes first will say so.
    for home in homes:
        try:
            descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
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
