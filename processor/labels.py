"""File names out of labels that strangers wrote."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

MAX_NAME_BYTES = 150
"""Longest file name in UTF-8, so that every file system and most forms take it."""

_PARAMETER = re.compile(
    r""";\s*(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<token>[^;]*))"""
)
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_ENDING = re.compile(r"[A-Za-z0-9]{1,8}")


def disposition_name(header: str) -> str:
    """The file name of a Content-Disposition header (RFC 6266), or an empty text.

    `filename*` goes before `filename`. A plain name may be in UTF-8 or in Latin-1.
    """
    parameters: dict[str, str] = {}
    for found in _PARAMETER.finditer(header):
        quoted = found["quoted"]
        value = found["token"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        parameters.setdefault(found["name"].lower(), value)
    return _extended(parameters.get("filename*", "")) or _unmixed(parameters.get("filename", ""))


def _extended(value: str) -> str:
    """The text of `charset'language'percent-encoded` (RFC 8187), empty when it is not that."""
    charset, _, rest = value.partition("'")
    _, mark, encoded = rest.partition("'")
    if not mark or charset.lower() not in ("utf-8", "iso-8859-1"):
        return ""
    return unquote_to_bytes(encoded).decode(charset, "replace")


def _unmixed(value: str) -> str:
    """UTF-8 that was read as Latin-1, read as UTF-8; any other text as it is."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def plain_name(label: str, ending: str, fallback: str) -> str:
    """A file name without path that ends in `.<ending>`, at most `MAX_NAME_BYTES` long.

    Of a path the last part counts. Control and invisible characters and leading dots go; what Windows
    forbids becomes `_`. When nothing is left the name is made of `fallback`. With the ending `bin`, an
    ending of the label's own stays.
    """
    stem = _clean(label)
    if ending == "bin" and (own := _ENDING.fullmatch(stem.rpartition(".")[2])) and "." in stem:
        ending = own[0]
    if stem.lower().endswith(f".{ending.lower()}"):
        stem = stem[: -len(ending) - 1]
    room = MAX_NAME_BYTES - len(ending) - 1
    stem = (stem.rstrip(" .") or fallback).encode("utf-8", "ignore")[:room].decode("utf-8", "ignore")
    return f"{stem.rstrip(' .')}.{ending}"


def _clean(label: str) -> str:
    last = re.split(r"[/\\]", label.rstrip("/\\ "))[-1]
    spaced = " ".join(unicodedata.normalize("NFC", last).split())
    visible = "".join(char for char in spaced if char.isprintable())
    return _FORBIDDEN.sub("_", visible).lstrip(". ")
