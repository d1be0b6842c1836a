"""What the operating system says of disk, clock and rights."""

from __future__ import annotations

import os
import pwd
import re
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from shared.spool import sync_folder

MIB = 1024 * 1024
RELEASED_ON = date(2026, 11, 21)
"""A clock that shows an earlier day is wrong."""

_LEAST_INODES = 1000
_TIME_SERVICE = Path("/run/systemd/timesync")
OVER_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3"}
    | {f"fuse.{name}" for name in ("ceph", "davfs", "glusterfs", "rclone", "s3fs", "sshfs")}
)
"""File systems behind which another machine stands."""
FORGETFUL = frozenset({"ramfs", "tmpfs"})
_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Free:
    """What a file system has left for this user; `inodes` is None where they are not counted."""

    free_bytes: int
    inodes: int | None

    @property
    def is_short_of_inodes(self) -> bool:
        """Whether so few files can be made that the disk is as good as full."""
        return self.inodes is not None and self.inodes < _LEAST_INODES

    @property
    def inodes_text(self) -> str:
        """The number of inodes, in words."""
        return "any number of inodes" if self.inodes is None else f"{self.inodes} inodes"


def free_on(path: Path) -> Free:
    """What is left on the file system that a path is on."""
    found = os.statvfs(path)
    return Free(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def may_write(folder: Path) -> bool:
    """Whether this user may make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def write_probe(folder: Path) -> float:
    """Write a small file, sync, rename, sync the folder, delete; returns the seconds of all but the last.

    Raises:
        OSError: one of these cannot be done.
    """
    written = folder / f".check.{os.getpid()}"
    renamed = folder / f".check.{os.getpid()}.renamed"
    started = time.monotonic()
    try:
        with written.open("wb") as file:
            file.write(b"signspool check\n")
            file.flush()
            os.fsync(file.fileno())
        written.rename(renamed)
        sync_folder(folder)
        return time.monotonic() - started
    finally:
        written.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)


def other_owner(path: Path) -> str | None:
    """The owner of a path, when it is not this user."""
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return f"user {owner}"


def is_clock_unsynchronised() -> bool:
    """Whether the machine's time service runs and has not set the clock yet; where none is known, False."""
    return _TIME_SERVICE.is_dir() and not (_TIME_SERVICE / "synchronized").exists()


def file_system_of(path: Path, mounts: str | None = None) -> str | None:
    """The kind of file system that a path is on, as `nfs4`; None where the system does not tell.

    `mounts` has the form of `/proc/self/mountinfo`.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    place, longest, found = path.resolve(), -1, None
    for line in mounts.splitlines():
        before, separator, behind = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        # Of several on one place, the last is the one that is seen.
        if place.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), behind.split(" ")[0]
    return found


def _unescaped(text: str) -> str:
    """A mount point as it is: the kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
