"""Reads JSON text that arrives in pieces, and never holds more of it than one piece.

The readers of Python's registry that stream (ijson with its four backends, json-stream and its native
tokenizer) hand out a string only when it is whole; a signed file is one string of 270 MB. So this is our own:
a recursive descent whose functions are generators that pause when the text runs out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import NoReturn, TypeVar

from shared.errors import TransientError

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Pauses whenever more text is needed, and returns what was read."""

PIECE_BYTES = 32 * 1024
"""Text that is looked at in one go."""

MAX_DEPTH = 32
"""Levels of arrays and objects, beyond which the text is not what we expect."""

_MAX_SCALAR_BYTES = 128
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
# Whole escapes only, so that a piece never ends inside one.
_IN_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_NOT_BYTES = "something other than numbers from 0 to 255"
_ESCAPE_BYTES = len(rb"\u0000")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*+")
_IS_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_DIGITS_AND_COMMAS = re.compile(rb"[0-9, \t\r\n]*+")


class Scanner:
    """The text as far as it has come, and the place up to which it was read.

    Every reading method is to be called with `yield from`.

    Raises:
        TransientError: the text is cut off or not JSON; providers answer like that when they have a bad
            moment.
    """

    def __init__(self) -> None:
        self._text = b""
        self._at = 0
        self._passed_bytes = 0
        self._ended = False

    def add(self, piece: bytes) -> None:
        """Take the next piece of text, which may not be empty; what was read is let go of."""
        self._passed_bytes += self._at
        self._text = self._text[self._at :] + piece
        self._at = 0

    def end(self) -> None:
        """Say that no more text will come."""
        self._ended = True

    def malformed(self, what: str) -> NoReturn:
        """Give up: the text is not what was promised."""
        place = self._passed_bytes + self._at
        raise TransientError(
            f"the answer is not the JSON that was expected: {what} at byte {place}; "
            "it is fetched again, and if it stays so, ask the provider"
        )

    def peek(self) -> Steps[bytes]:
        """The next byte that is not white space; it is not passed over."""
        while (found := _NOT_SPACE.search(self._text, self._at)) is None:
            self._at = len(self._text)
            yield from self._need()
        self._at = found.start()
        return found[0]

    def begin(self) -> Steps[bytes]:
        """The first byte of the value, behind a byte order mark.

        Raises:
            TransientError: it is the beginning of a web page.
        """
        byte = yield from self.peek()
        if byte == b"\xef":
            yield from self.take(b"\xef\xbb\xbf")
            byte = yield from self.peek()
        if byte == b"<":
            raise TransientError("the provider answered with a page where JSON was expected: tried again")
        return byte

    def take(self, token: bytes) -> Steps[None]:
        """Pass over these bytes, which have to come next, after white space."""
        yield from self.peek()
        while len(self._text) - self._at < len(token):
            yield from self._need()
        if not self._text.startswith(token, self._at):
            self.malformed(f"no {token.decode('ascii', 'backslashreplace')}")
        self._at += len(token)

    def finish(self) -> Steps[None]:
        """Read to the end of the text, where only white space may stand."""
        while _NOT_SPACE.search(self._text, self._at) is None:
            self._at = len(self._text)
            if self._ended:
                return
            yield
        self.malformed("something behind the end")

    def follows(self, closing: bytes, *, first: bool) -> Steps[bool]:
        """Whether a further member stands before the closing bracket; passes over comma or bracket."""
        byte = yield from self.peek()
        if byte == closing:
            self._at += 1
            return False
        if not first:
            yield from self.take(b",")
            if (yield from self.peek()) == closing:
                self.malformed("a comma too many")
        return True

    def string_piece(self) -> Steps[bytes | None]:
        """The next piece of a string whose opening quote was passed, escapes as they stand; None behind its
        closing quote."""
        while True:
            found = _IN_STRING.match(self._text, self._at)
            assert found is not None
            if found[0]:
                self._at = found.end()
                return found[0]
            rest = len(self._text) - self._at
            if rest and self._text[self._at] == ord('"'):
                self._at += 1
                return None
            if rest and (self._text[self._at] != ord("\\") or rest >= _ESCAPE_BYTES):
                self.malformed("a letter that a text may not have")
            yield from self._need()

    def short_string(self, limit_bytes: int) -> Steps[str]:
        """A whole string, which may not be longer than the limit."""
        yield from self.take(b'"')
        raw = bytearray()
        while (piece := (yield from self.string_piece())) is not None:
            raw += piece
            if len(raw) > limit_bytes:
                self.malformed(f"a text of more than {limit_bytes} bytes")
        try:
            return str(json.loads(b'"%b"' % bytes(raw)))
        except ValueError:
            self.malformed("a text that is not UTF-8")

    def bytes_piece(self, *, first: bool) -> Steps[tuple[bytes, bool]]:
        """The next numbers of an array of numbers from 0 to 255 whose opening bracket was passed, as bytes,
        and whether more come; if not, the closing bracket was passed too."""
        while True:
            found = _DIGITS_AND_COMMAS.match(self._text, self._at)
            assert found is not None
            if (end := found.end()) < len(self._text):
                text, self._at = found[0], end
                if self._text[end] != ord("]"):
                    self.malformed(_NOT_BYTES)
                self._at = end + 1
                return (b"" if first and not text.strip() else self._numbers(text)), False
            comma = self._text.rfind(b",", self._at)
            if comma >= 0:
                text, self._at = self._text[self._at : comma], comma + 1
                return self._numbers(text), True
            if len(found[0]) > _MAX_SCALAR_BYTES:
                self.malformed("a number that is too long")
            yield from self._need()

    def _numbers(self, text: bytes) -> bytes:
        if not text.strip():
            self.malformed("a comma too many")
        try:
            return bytes(json.loads(b"[%b]" % text))
        except ValueError:
            self.malformed(_NOT_BYTES)

    def scalar(self) -> Steps[bytes]:
        """A number, `true`, `false` or `null`, as it is written."""
        yield from self.peek()
        while True:
            found = _SCALAR.match(self._text, self._at)
            assert found is not None
            if len(found[0]) > _MAX_SCALAR_BYTES:
                self.malformed("a number that is too long")
            if found.end() < len(self._text):
                break
            yield from self._need()
        if not _IS_SCALAR.fullmatch(found[0]):
            self.malformed("no value")
        self._at = found.end()
        return found[0]

    def skip_value(self, depth: int) -> Steps[None]:
        """Pass over any value; `depth` counts the arrays and objects around it."""
        byte = yield from self.peek()
        if byte == b'"':
            self._at += 1
            while (yield from self.string_piece()) is not None:
                pass
        elif byte in (b"[", b"{"):
            if depth >= MAX_DEPTH:
                self.malformed(f"more than {MAX_DEPTH} levels")
            self._at += 1
            yield from self._skip_members(byte, depth + 1)
        else:
            yield from self.scalar()

    def _skip_members(self, opening: bytes, depth: int) -> Steps[None]:
        closing = b"]" if opening == b"[" else b"}"
        first = True
        while (yield from self.follows(closing, first=first)):
            first = False
            if opening == b"{":
                if (yield from self.peek()) != b'"':
                    self.malformed("a name without quotes")
                yield from self.skip_value(depth)
                yield from self.take(b":")
            yield from self.skip_value(depth)

    def _need(self) -> Steps[None]:
        if self._ended:
            raise TransientError("the answer is cut off: it is fetched again")
        yield
        if self._ended:
            raise TransientError("the answer is cut off: it is fetched again")
