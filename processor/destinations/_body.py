"""Request bodies of known length, made while they are sent, so that memory does not grow with the file."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from processor.destinations._base import Parcel
from processor.pieces import read_pieces


@dataclass(frozen=True, slots=True)
class Body:
    """A body: its type, its length, and bytes or a file between bytes.

    It can be sent several times; each time the file is read and checked anew.
    """

    media_type: str
    before: bytes
    parcel: Parcel | None = None
    after: bytes = b""
    in_base64: bool = False

    @property
    def size_bytes(self) -> int:
        """Length in bytes, to the byte."""
        size_bytes = self.parcel.size_bytes if self.parcel else 0
        if self.in_base64:
            size_bytes = (size_bytes + 2) // 3 * 4
        return len(self.before) + size_bytes + len(self.after)

    @property
    def content(self) -> bytes | AsyncIterable[bytes]:
        """What to hand to the sender, together with a Content-Length of `size_bytes`."""
        return self.before if self.parcel is None else self._pieces(self.parcel)

    async def _pieces(self, parcel: Parcel) -> AsyncIterator[bytes]:
        if self.before:
            yield self.before
        async with aclosing(read_pieces(parcel)) as pieces:
            async for piece in pieces:
                yield base64.b64encode(piece) if self.in_base64 else piece
        if self.after:
            yield self.after


def raw_body(parcel: Parcel) -> Body:
    """The file and nothing else."""
    return Body(parcel.media_type or "application/octet-stream", b"", parcel)


def new_marker() -> str:
    """A text that nobody can have put into a field, to hold the place of a file in `json_body`."""
    return secrets.token_hex(32)


def json_body(fields: Mapping[str, Any], parcel: Parcel | None = None, *, marker: str = "") -> Body:
    """A JSON object; the marker in one of its texts becomes the base64 of the parcel's file."""
    text = json.dumps(fields).encode("ascii")
    if parcel is None:
        return Body("application/json", text)
    before, _, after = text.partition(marker.encode("ascii"))
    return Body("application/json", before, parcel, after, in_base64=True)


def form_body(fields: Mapping[str, Any]) -> Body:
    """Fields as an HTML form sends them without a file."""
    text = urlencode({name: field_text(value) for name, value in fields.items()})
    return Body("application/x-www-form-urlencoded", text.encode("ascii"))


def multipart_body(fields: Mapping[str, Any], parcel: Parcel | None, *, file_part: str = "") -> Body:
    """Form parts; the parcel's file, if there is one, is the last."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
        f"{field_text(value)}\r\n"
        for name, value in fields.items()
    ]
    if parcel is not None:
        media_type = parcel.media_type if parcel.media_type.isprintable() else ""
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(file_part)}"; '
            f'filename="{_quoted(parcel.name)}"\r\n'
            f"Content-Type: {media_type or 'application/octet-stream'}\r\n\r\n"
        )
    before = "".join(parts).encode("utf-8", "replace")
    end = f"--{boundary}--\r\n".encode("ascii")
    media_type = f"multipart/form-data; boundary={boundary}"
    if parcel is None:
        return Body(media_type, before + end)
    return Body(media_type, before, parcel, b"\r\n" + end)


def field_text(value: Any) -> str:
    """A field's value in a form: a text as it is, a number or truth value as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """A name in a part's header, escaped as browsers do."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
