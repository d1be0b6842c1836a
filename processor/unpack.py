"""Takes files out of what carries them: a JSON answer as it streams by, and a zip on disk."""

from __future__ import annotations

import binascii
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from processor.jsonscan import PIECE_BYTES, Scanner, Steps
from shared.errors import NotReadyError, PermanentError, TransientError

MAX_FILES = 100
"""Files that one JSON answer or one zip may hold."""

MAX_ENTRIES = 10_000
"""Entries of a zip that is looked through but not unpacked."""

MAX_UNPACKED_BYTES = 8 * 1024**3
"""What the entries of such a zip may come to, since reading them takes time."""

_MAX_LABEL_BYTES = 4096
_MAX_DIRECTORY_BYTES = 1024 * 1024


class Sink(Protocol):
    """Where the bytes of one file go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes; errors pass through the decoder."""


S = TypeVar("S", bound=Sink)


@dataclass(frozen=True, slots=True)
class Part(Generic[S]):
    """One file that was taken out. `name` and `media_type` are the other side's labels, possibly empty."""

    name: str
    media_type: str
    sink: S


class JsonFilesDecoder(Generic[S]):
    """Decodes an object, or an array of objects, of `name`, `mimeType` and `bytes` while it arrives.

    `bytes` is base64 text or an array of numbers from 0 to 255, of any length: memory does not grow with
    it. Letter case and order of the keys do not matter, and other keys are passed over. `open_file` is asked
    for a sink whenever a file begins. After an error the decoder is of no further use.
    """

    def __init__(self, open_file: Callable[[], S]) -> None:
        self._open_file = open_file
        self._scanner = Scanner()
        self._parts: list[Part[S]] = []
        self._steps = self._document()
        next(self._steps)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer.

        Raises:
            TransientError: the answer is not what was expected.
            NotReadyError: a file has no bytes.
        """
        for start in range(0, len(chunk), PIECE_BYTES):
            self._scanner.add(chunk[start : start + PIECE_BYTES])
            next(self._steps)

    def close(self) -> list[Part[S]]:
        """Say that the answer has ended; returns its files in their order.

        Raises:
            TransientError: it ended too early.
        """
        self._scanner.end()
        for _ in self._steps:
            raise AssertionError("a scanner that has ended does not pause")
        return self._parts

    def _document(self) -> Steps[None]:
        scanner = self._scanner
        byte = yield from scanner.begin()
        if byte == b"{":
            yield from self._file(1)
        elif byte == b"[":
            yield from scanner.take(b"[")
            while (yield from scanner.follows(b"]", first=not self._parts)):
                if len(self._parts) == MAX_FILES:
                    raise PermanentError(f"the answer has more than {MAX_FILES} files: ask the provider")
                yield from self._file(2)
        else:
            scanner.malformed("neither an object nor an array")
        yield from scanner.finish()

    def _file(self, depth: int) -> Steps[None]:
        scanner = self._scanner
        yield from scanner.take(b"{")
        labels = {"name": "", "mimetype": ""}
        sink: S | None = None
        first = True
        while (yield from scanner.follows(b"}", first=first)):
            first = False
            key = (yield from scanner.short_string(_MAX_LABEL_BYTES)).casefold()
            yield from scanner.take(b":")
            if key == "bytes":
                if sink is not None:
                    scanner.malformed("bytes a second time")
                sink = yield from self._bytes()
            elif key in labels and (yield from scanner.peek()) == b'"':
                label = yield from scanner.short_string(_MAX_LABEL_BYTES)
                labels[key] = label.encode("utf-8", "replace").decode()
            else:
                yield from scanner.skip_value(depth)
        if sink is None:
            scanner.malformed("a file without bytes")
        self._parts.append(Part(labels["name"], labels["mimetype"], sink))

    def _bytes(self) -> Steps[S]:
        scanner = self._scanner
        opening = yield from scanner.peek()
        if opening not in (b'"', b"["):
            if (yield from scanner.scalar()) == b"null":
                raise NotReadyError("the provider's answer has no bytes yet")
            scanner.malformed("bytes that are neither text nor an array")
        yield from scanner.take(opening)
        sink = self._open_file()
        read = self._base64 if opening == b'"' else self._numbers
        if not (yield from read(sink)):
            raise NotReadyError("the provider's answer has no bytes yet")
        return sink

    def _base64(self, sink: S) -> Steps[bool]:
        scanner = self._scanner
        base64 = Base64Pieces()
        filled = False
        try:
            while (piece := (yield from scanner.string_piece())) is not None:
                if data := base64.decode(piece):
                    sink.write(data)
                    filled = True
            if data := base64.finish():
                sink.write(data)
                filled = True
        except binascii.Error:
            scanner.malformed("text that is not base64")
        return filled

    def _numbers(self, sink: S) -> Steps[bool]:
        filled, more = False, True
        while more:
            data, more = yield from self._scanner.bytes_piece(first=not filled)
            if data:
                sink.write(data)
                filled = True
        return filled


_ESCAPE = re.compile(rb"\\(?:u(....)|(.))")
_CONTROL = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_WHITE_SPACE = b" \t\r\n"
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Base64Pieces:
    """Decodes base64 that arrives in pieces of JSON text: escapes, white space, either alphabet, with or
    without padding. Everything else raises `binascii.Error`."""

    def __init__(self) -> None:
        self._letters = b""
        self._padding = 0

    def decode(self, piece: bytes) -> bytes:
        """The bytes that are complete with this piece; it never ends inside an escape."""
        if b"\\" in piece:
            piece = _ESCAPE.sub(_resolve, piece)
        letters, mark, behind = piece.translate(_FROM_URL_SAFE, _WHITE_SPACE).partition(b"=")
        if behind.strip(b"=") or (letters and self._padding):
            raise binascii.Error("letters behind the padding")
        self._padding += len(mark) + len(behind)
        letters = self._letters + letters
        whole = len(letters) & ~3
        self._letters = letters[whole:]
        return binascii.a2b_base64(letters[:whole], strict_mode=True)

    def finish(self) -> bytes:
        """The bytes of the last group."""
        missing = -len(self._letters) % 4
        if self._padding not in (0, missing):
            raise binascii.Error("wrong padding")
        return binascii.a2b_base64(self._letters + b"=" * missing, strict_mode=True)


def _resolve(escape: re.Match[bytes]) -> bytes:
    """The letter that a JSON escape stands for; `?`, which base64 has not, for one outside Latin-1."""
    digits, letter = escape.groups()
    if digits is not None:
        code = int(digits, 16)
        return bytes((code,)) if code < 256 else b"?"
    return _CONTROL.get(letter, letter)


class _SmallReads(io.BufferedReader):
    """A zip on disk whose list of entries, which is read in one go, cannot fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise PermanentError("the zip's list of entries is too long: ask the provider for single files")
        return super().read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if whence != os.SEEK_SET:
                raise
            raise zipfile.BadZipFile("an offset points outside of the file") from error


@contextmanager
def open_zip(path: Path, *, max_entries: int, max_total_bytes: int) -> Iterator[zipfile.ZipFile]:
    """A zip whose entries can be read within bounds; errors of the block are translated too.

    Raises:
        PermanentError: encrypted, packed in an unusual way, or beyond a limit.
        TransientError: broken or cut off.
    """
    try:
        with _SmallReads(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            _check_bounds(archive.infolist(), max_entries, max_total_bytes)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, IndexError) as error:
        # The last three come of numbers and names in the zip that no zip can have.
        raise TransientError("the zip is broken or cut off: it is fetched again") from error
    except (NotImplementedError, RuntimeError) as error:
        raise PermanentError("the zip needs a newer or a secret way of unpacking") from error


def _check_bounds(entries: list[zipfile.ZipInfo], max_entries: int, max_total_bytes: int) -> None:
    if len(entries) > max_entries:
        raise PermanentError(
            f"the zip has more than {max_entries} entries: ask the provider for single files"
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise PermanentError("the zip is encrypted: have the provider send it without a password")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise PermanentError("the zip is packed in an unusual way: have the provider send single files")
    if sum(entry.file_size for entry in entries) > max_total_bytes:
        raise PermanentError(
            f"the zip unpacks to more than {max_total_bytes} bytes: raise max_file if that is right"
        )


def expand_zip(path: Path, open_file: Callable[[], S], *, max_total_bytes: int) -> list[Part[S]]:
    """Unpack the files of a zip, each into a sink of its own; folders are passed over.

    The name of an entry is a label and never a path. Nothing is unpacked before every entry was found to be
    within the limits.

    Raises:
        PermanentError: encrypted, more than `MAX_FILES` entries, or more bytes than the limit.
        TransientError: broken or cut off.
    """
    parts = []
    with open_zip(path, max_entries=MAX_FILES, max_total_bytes=max_total_bytes) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            sink = open_file()
            with archive.open(entry) as content:
                while data := content.read(PIECE_BYTES):
                    sink.write(data)
            parts.append(Part(entry.filename, "", sink))
    return parts
