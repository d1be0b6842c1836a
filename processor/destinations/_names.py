"""Parts of names under which files are stored: what of a value stays as it is, and how long a part may be."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePath, PurePosixPath
from typing import TypeVar

P = TypeVar("P", bound=PurePath)

_MAX_PART_BYTES = 200
_KEPT_MARKS = frozenset(" ._-()+,=@")


def safe_part(value: str) -> str:
    """A value as it may stand in a name: letters of any script, digits and a few marks stay, as they are
    composed; of everything else, slashes included, the `%XX` of its UTF-8."""
    kept = "".join(
        char if char.isalnum() or char in _KEPT_MARKS else _percent(char)
        for char in unicodedata.normalize("NFC", value.encode("utf-8", "replace").decode("utf-8"))
    )
    # In front, a dot would hide the file and a dash look like an option; behind, some systems drop them.
    if kept[:1] in (".", "-", " "):
        kept = _percent(kept[0]) + kept[1:]
    return kept[:-1] + _percent(kept[-1]) if kept[-1:] in (".", " ") else kept


def fitting(name: str) -> str:
    """A name of at most 200 bytes; one that is cut carries a digest of the whole, and keeps its ending."""
    if not name.strip("."):
        return name.replace(".", "%2E")
    encoded = name.encode("utf-8")
    if len(encoded) <= _MAX_PART_BYTES:
        return name
    ending = PurePosixPath(name).suffix
    suffix = ending if len(ending.encode("utf-8")) <= 16 else ""
    tail = f"%-{hashlib.sha256(encoded).hexdigest()[:32]}{suffix}"
    return encoded[: _MAX_PART_BYTES - len(tail.encode("utf-8"))].decode("utf-8", "ignore") + tail


def with_digest(path: P, sha256: str) -> P:
    """The same path with a piece of the digest before the ending."""
    return path.with_name(f"{path.stem}.{sha256[:16]}{path.suffix}")


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))
