"""One sync for a whole file system, and where it can be relied on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import disk


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_file_system_is_synced(folder: int) -> None:
    disk.sync_file_system(folder)


def test_a_failure_is_the_error_that_the_kernel_named() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        disk.sync_file_system(-1)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("release", "reports"),
    [
        ("4.19.0-27-amd64", False),
        ("5.8.0", False),
        ("5.16.20", False),
        ("5.17", True),
        ("6.1.0-18-amd64", True),
        ("10.0-rc1", True),
        ("unknown", False),
    ],
)
def test_older_kernels_do_not_report_every_failure(release: str, reports: bool) -> None:
    assert disk.reports_errors(release) is reports


def test_only_file_systems_that_keep_the_promise_are_relied_on(folder: int, tmp_path: Path) -> None:
    """What the kernel's own list of mounts says decides, and /proc is none of them."""
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    expected = kind in {"ext2/ext3", "xfs"} and disk.reports_errors(os.uname().release)
    assert disk.can_sync_file_system(folder) is expected
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert not disk.can_sync_file_system(proc)
    finally:
        os.close(proc)
    assert not disk.can_sync_file_system(-1)
