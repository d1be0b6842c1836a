"""Takes the files out of a JSON answer of any shape as it streams by, and keeps the rest of it."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Collection
from typing import Generic

from processor.jsonscan import PIECE_BYTES, Scanner, Steps
from processor.unpack import MAX_FILES, Base64Pieces, S
from shared.errors import PermanentError

MAX_REST_BYTES = 1024 * 1024
"""What an answer may hold besides its files."""

MAX_DEPTH = 32
"""Levels of arrays and objects."""

_MAX_KEY_BYTES = 4096


class JsonTreeDecoder(Generic[S]):
    """Decodes a JSON object or array in which base64 texts under known fields are files, while it arrives.

    `file_fields` are those names, trimmed and case-folded. `open_file` is asked for a sink whenever such a
    text begins. Memory grows with the rest of the answer only. After an error the decoder is of no further
    use.
    """

    def __init__(self, open_file: Callable[[], S], file_fields: Collection[str]) -> None:
        self._open_file = open_file
        self._file_fields = file_fields
        self._scanner = Scanner()
        self._rest = bytearray()
        self._sinks: list[S] = []
        self._steps = self._document()
        next(self._steps)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer.

        Raises:
            TransientError: the answer is not JSON.
            PermanentError: it holds too many files, or too much besides them.
        """
        for start in range(0, len(chunk), PIECE_BYTES):
            self._scanner.add(chunk[start : start + PIECE_BYTES])
            next(self._steps)

    def close(self) -> tuple[bytes, list[S]]:
        """Say that the answer has ended.

        Returns the rest as JSON and the sinks. In the rest the place of each file has the index of its sink;
        where the field held anything else than base64 of at least one byte, null.

        Raises:
            TransientError: it ended too early.
        """
        self._scanner.end()
        for _ in self._steps:
            raise AssertionError("a scanner that has ended does not pause")
        return bytes(self._rest), self._sinks

    def _keep(self, text: bytes) -> None:
        self._rest += text
        if len(self._rest) > MAX_REST_BYTES:
            raise PermanentError(
                f"the answer holds more than {MAX_REST_BYTES} bytes besides its files: ask the provider"
            )

    def _document(self) -> Steps[None]:
        scanner = self._scanner
        byte = yield from scanner.begin()
        if byte not in (b"{", b"["):
            scanner.malformed("neither an object nor an array")
        yield from self._members(byte, 1)
        yield from scanner.finish()

    def _value(self, depth: int, *, may_be_file: bool) -> Steps[None]:
        scanner = self._scanner
        byte = yield from scanner.peek()
        if byte in (b"{", b"["):
            if depth == MAX_DEPTH:
                scanner.malformed(f"more than {MAX_DEPTH} levels")
            yield from self._members(byte, depth + 1)
        elif byte == b'"':
            yield from scanner.take(b'"')
            yield from self._file() if may_be_file else self._text()
        else:
            scalar = yield from scanner.scalar()
            # A number in a file's place would look like the index of a file.
            self._keep(b"null" if may_be_file else scalar)

    def _members(self, opening: bytes, depth: int) -> Steps[None]:
        scanner = self._scanner
        closing = b"]" if opening == b"[" else b"}"
        yield from scanner.take(opening)
        self._keep(opening)
        first, may_be_file = True, False
        while (yield from scanner.follows(closing, first=first)):
            if not first:
                self._keep(b",")
            first = False
            if opening == b"{":
                key = yield from scanner.short_string(_MAX_KEY_BYTES)
                yield from scanner.take(b":")
                self._keep(json.dumps(key).encode("ascii") + b":")
                may_be_file = key.strip().casefold() in self._file_fields
            yield from self._value(depth, may_be_file=may_be_file)
        self._keep(closing)

    def _text(self) -> Steps[None]:
        self._keep(b'"')
        while (piece := (yield from self._scanner.string_piece())) is not None:
            self._keep(piece)
        self._keep(b'"')

    def _file(self) -> Steps[None]:
        """A text whose opening quote was passed goes to a sink, up to the first letter that is no base64."""
        base64, sink, is_whole = Base64Pieces(), None, True
        while (piece := (yield from self._scanner.string_piece())) is not None:
            if not is_whole:
                continue
            try:
                data = base64.decode(piece)
            except binascii.Error:
                is_whole = False
                continue
            if data:
                sink = sink or self._new_sink()
                sink.write(data)
        try:
            if is_whole and (data := base64.finish()):
                sink = sink or self._new_sink()
                sink.write(data)
        except binascii.Error:
            is_whole = False
        if sink is None or not is_whole:
            self._keep(b"null")
        else:
            self._keep(b"%d" % (len(self._sinks) - 1))

    def _new_sink(self) -> S:
        if len(self._sinks) == MAX_FILES:
            raise PermanentError(f"the answer has more than {MAX_FILES} files: ask the provider")
        self._sinks.append(self._open_file())
        return self._sinks[-1]
