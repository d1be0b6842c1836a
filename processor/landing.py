"""The folder into which one fetch writes; nothing of it is left unless it is moved out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from shared.errors import PermanentError
from shared.spool import sync_folder, unavailable

_PREFIX = ".fetch-"
_HEAD_BYTES = 16
_TOTAL_FACTOR = 8
"""How many times the limit of one file everything that is fetched for one document may come to."""


class LandedFile:
    """A file being written; its size, digest and first bytes are computed on the way.

    `token` is its number within the landing.
    """

    def __init__(self, landing: Landing, token: int, path: Path) -> None:
        self.token = token
        self.path = path
        self.size_bytes = 0
        self.head = b""
        self._landing = landing
        self._digest = hashlib.sha256()
        with unavailable("write a fetched file", gone_too=True):
            # What is written is more than a buffer's worth each time.
            self._file = path.open("xb", buffering=0)

    @property
    def sha256(self) -> str:
        """The digest of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Append bytes.

        Raises:
            PermanentError: the file, or all files together, grow beyond the limit.
            SpoolUnavailableError: the disk takes no more.
        """
        self.size_bytes += len(data)
        self._landing.count(self.size_bytes, len(data))
        self._digest.update(data)
        if len(self.head) < _HEAD_BYTES:
            self.head = (self.head + data[:_HEAD_BYTES])[:_HEAD_BYTES]
        rest = memoryview(data)
        with unavailable("write a fetched file", gone_too=True):
            while rest:
                rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """Write no more."""
        with unavailable("write a fetched file", gone_too=True):
            self._file.close()

    def sync(self) -> None:
        """Bring the content to disk."""
        with unavailable("write a fetched file", gone_too=True), self.path.open("rb") as file:
            os.fsync(file.fileno())


class Landing:
    """A temporary folder inside `folder`, where the files of one fetch land."""

    def __init__(self, folder: Path, *, max_file_bytes: int) -> None:
        self.max_file_bytes = max_file_bytes
        self._folder = folder
        self._files: list[LandedFile] = []
        self._total_bytes = 0
        with unavailable("make a folder for fetched files", gone_too=True):
            self._path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))

    def open_file(self) -> LandedFile:
        """A new empty file."""
        token = len(self._files)
        file = LandedFile(self, token, self._path / str(token))
        self._files.append(file)
        return file

    def file(self, token: int) -> LandedFile:
        """The file that has this token."""
        return self._files[token]

    def count(self, file_bytes: int, added_bytes: int) -> None:
        """Hold the limits; called before bytes are written.

        Raises:
            PermanentError: a limit is passed.
        """
        self._total_bytes += added_bytes
        if file_bytes > self.max_file_bytes:
            raise self.too_large()
        if self._total_bytes > _TOTAL_FACTOR * self.max_file_bytes:
            raise PermanentError(
                f"the files of this document come to more than {_TOTAL_FACTOR} times max_file "
                f"({self.max_file_bytes} bytes): raise it if that is right"
            )

    def too_large(self) -> PermanentError:
        """The error of a file above the limit."""
        return PermanentError(
            f"the file is larger than max_file ({self.max_file_bytes} bytes): raise it if that is right"
        )

    def keep(self, named: list[tuple[LandedFile, str]]) -> list[Path]:
        """Move files out, each under its name in the folder, and bring them to disk; returns their paths.

        A file that has the name already is replaced.
        """
        for file, _ in named:
            file.sync()
        paths = []
        with unavailable("move a fetched file to its place", gone_too=True):
            for file, name in named:
                paths.append(file.path.rename(self._folder / name))
            sync_folder(self._folder)
        return paths

    def remove(self) -> None:
        """Remove the temporary folder and what is still in it."""
        for file in self._files:
            file.close()
        with unavailable("remove a folder of fetched files"), suppress(FileNotFoundError):
            shutil.rmtree(self._path)


def remove_leftovers(folder: Path) -> int:
    """Remove what fetches of a dead process left in a folder and in its day folders; returns how many.

    To be called only while no fetch is running.
    """
    left = [path for pattern in (f"{_PREFIX}*", f"*/{_PREFIX}*") for path in folder.glob(pattern)]
    with unavailable("remove what was left of a fetch"):
        for path in left:
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
    return len(left)
