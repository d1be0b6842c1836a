"""What Python's own library lacks of the file system: bringing all of it to disk in one call."""

from __future__ import annotations

import ctypes
import functools
import os
import re

_LIBC = ctypes.CDLL(None, use_errno=True)

# Source: statfs(2) and linux/magic.h. On these one call brings data and journal of every file to disk; of
# others, FUSE and network file systems above all, the kernel does not promise it.
_WHOLE_SYNC_TYPES = frozenset({0xEF53, 0x58465342})  # ext4, XFS

# Source: syncfs(2) and the kernel's log: it reports failed writes since 5.8, and a failed journal since 5.17.
_REPORTS_ERRORS_SINCE = (5, 17)

_STATFS_BYTES = 256
"""More than struct statfs has on any machine; its type stands first."""


def sync_file_system(descriptor: int) -> None:
    """Bring everything on the file system of an open file or folder to disk.

    Raises:
        OSError: something of it, perhaps of another program, could not be written since the last such call
            with this descriptor.
    """
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def can_sync_file_system(descriptor: int) -> bool:
    """Whether `sync_file_system` can be relied on where an open file lies: for its work and its errors."""
    return reports_errors(os.uname().release) and _type_of(descriptor) in _WHOLE_SYNC_TYPES


def _type_of(descriptor: int) -> int:
    """The magic number of a file system; 0 when it cannot be had."""
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(descriptor, status) != 0:
        return 0
    return int(ctypes.c_long.from_buffer(status).value)


@functools.cache
def reports_errors(release: str) -> bool:
    """Whether a kernel of this release reports every failure of `sync_file_system`."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _REPORTS_ERRORS_SINCE
