"""Files of ours on their way out: read piece by piece, and never whole if they are not what they were."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from shared.errors import TransientError
from shared.providers._base import FileContent

# A multiple of three, so that base64 of the pieces is the base64 of the whole.
_PIECE_BYTES = 3 * 64 * 1024


class OurFile(Protocol):
    """A file on our disk, as it was when it was last looked at."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def size_bytes(self) -> int:
        """Its length."""

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal."""


async def expect_file(file: OurFile) -> None:
    """Return when a file lies on our disk in its full length.

    Raises:
        TransientError: it does not.
    """
    try:
        size_bytes = (await asyncio.to_thread(file.path.stat)).st_size
    except OSError as error:
        raise _changed(file) from error
    if size_bytes != file.size_bytes:
        raise _changed(file)


async def read_pieces(file: OurFile) -> AsyncGenerator[bytes]:
    """The bytes of a file in pieces, the last one only after the digest of all was found right.

    So a file that was damaged on our disk never arrives whole.

    Raises:
        TransientError: the file is gone, or is not what it was.
    """
    digest = hashlib.sha256()
    try:
        opened = await asyncio.to_thread(file.path.open, "rb")
        try:
            left_bytes = file.size_bytes
            while left_bytes > 0:
                piece = await asyncio.to_thread(opened.read, min(_PIECE_BYTES, left_bytes))
                if not piece:
                    raise _changed(file)
                digest.update(piece)
                left_bytes -= len(piece)
                if left_bytes:
                    yield piece
            if digest.hexdigest() != file.sha256:
                raise _changed(file)
            if file.size_bytes:
                yield piece
        finally:
            opened.close()
    except OSError as error:
        raise _changed(file) from error


async def read_part(file: OurFile, start_bytes: int, end_bytes: int) -> AsyncGenerator[bytes]:
    """The bytes of a file between two places, those at its end only after the digest of all was found right.

    Raises:
        TransientError: the file is gone, or is not what it was.
    """
    if end_bytes == file.size_bytes:
        async with aclosing(read_pieces(file)) as pieces:
            # Read for the digest alone.
            async for _ in pieces:
                pass
    try:
        opened = await asyncio.to_thread(file.path.open, "rb")
        try:
            await asyncio.to_thread(opened.seek, start_bytes)
            left_bytes = end_bytes - start_bytes
            while left_bytes > 0:
                piece = await asyncio.to_thread(opened.read, min(_PIECE_BYTES, left_bytes))
                if not piece:
                    raise _changed(file)
                left_bytes -= len(piece)
                yield piece
        finally:
            opened.close()
    except OSError as error:
        raise _changed(file) from error


class Composed:
    """A body put together of bytes and files; each time that it is sent the files are read anew."""

    def __init__(self, pieces: Sequence[bytes | FileContent], files: Sequence[OurFile]) -> None:
        self._pieces = pieces
        self._files = files

    @property
    def size_bytes(self) -> int:
        """Length in bytes, to the byte."""
        return sum(map(self._size_of, self._pieces))

    def _size_of(self, piece: bytes | FileContent) -> int:
        if isinstance(piece, bytes):
            return len(piece)
        start_bytes, end_bytes = self._span(piece)
        size_bytes = end_bytes - start_bytes
        return (size_bytes + 2) // 3 * 4 if piece.encoding == "base64" else size_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                if piece:
                    yield piece
                continue
            async with aclosing(self._read(piece)) as parts:
                async for part in parts:
                    yield base64.b64encode(part) if piece.encoding == "base64" else part

    async def md5(self) -> str:
        """The digest of the whole, in base64, as the header Content-MD5 has it.

        Raises:
            TransientError: a file is gone, or is not what it was.
        """
        digest = hashlib.md5(usedforsecurity=False)
        async for piece in self:
            digest.update(piece)
        return base64.b64encode(digest.digest()).decode("ascii")

    def _read(self, piece: FileContent) -> AsyncGenerator[bytes]:
        file = self._files[piece.file]
        if piece.start_bytes == 0 and piece.size_bytes is None:
            return read_pieces(file)
        return read_part(file, *self._span(piece))

    def _span(self, piece: FileContent) -> tuple[int, int]:
        """Where a piece begins in its file, and where it ends."""
        size_bytes = self._files[piece.file].size_bytes
        start_bytes = min(piece.start_bytes, size_bytes)
        if piece.size_bytes is None:
            return start_bytes, size_bytes
        return start_bytes, min(start_bytes + piece.size_bytes, size_bytes)


def _changed(file: OurFile) -> TransientError:
    return TransientError(f"the file {file.path.name} was changed or removed on our disk")
