"""File names made of ids that strangers chose."""

from __future__ import annotations

import hashlib
import re
from datetime import date

MAX_ID_BYTES = 150
"""Longest encoded id in a file name, so that with guid and ending the name stays under 200 bytes."""

_KEEP = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,149}")
_PERCENT = [chr(byte) if byte in _KEEP else f"%{byte:02X}" for byte in range(256)]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_GUID = re.compile(r"_(?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})\.json$")


def encode_id(document_id: str) -> str:
    """An id as part of a file name.

    Letters, digits, dot and dash stay; every other byte of its UTF-8 becomes `%XX`, and so does a dot or a
    dash at the beginning, which would hide the file or look like an option. A result above `MAX_ID_BYTES`
    is cut and ends in `%-` and a digest of the whole id; no short id can look like that, so two different
    ids never share a name.
    """
    if _PLAIN.fullmatch(document_id):
        return document_id
    data = document_id.encode("utf-8", "surrogatepass")
    # What is cut off is not worth encoding.
    pieces = [_PERCENT[byte] for byte in data[: MAX_ID_BYTES + 1]]
    if data[:1] in (b".", b"-"):
        pieces[0] = f"%{data[0]:02X}"
    encoded = "".join(pieces)
    if len(encoded) <= MAX_ID_BYTES:
        return encoded
    digest = "%-" + hashlib.sha256(data).hexdigest()[:32]
    while sum(map(len, pieces)) > MAX_ID_BYTES - len(digest):
        pieces.pop()
    return "".join(pieces) + digest


def entry_name(document_id: str, guid: str) -> str:
    """The name of a spool file: `<id>_<guid>.json`."""
    return f"{encode_id(document_id)}_{guid}.json"


def guid_in(name: str) -> str | None:
    """The guid that a spool file's name carries, in lower case; None for another name."""
    found = _GUID.search(name)
    return found["guid"].lower() if found else None


def day_of(name: str) -> date | None:
    """The day that a folder name `aaaa-mm-dd` stands for; None for any other name."""
    if not _DAY.fullmatch(name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
