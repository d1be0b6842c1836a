"""The body of a request, told apart: JSON that can be spliced into a file, other text, or bytes."""

from __future__ import annotations

import codecs
from email.message import Message
from enum import StrEnum
from typing import Any, NamedTuple

from shared import jsontext

_BOM = "\ufeff"


class Encoding(StrEnum):
    """How `originalPayload` holds the body."""

    JSON = "json"
    """Spliced in byte for byte."""
    TEXT = "text"
    """A JSON text whose UTF-8 bytes are the body."""
    BASE64 = "base64"
    """A JSON text that is the base64 of the body."""


class DecodedBody(NamedTuple):
    """A body as far as it could be understood; `problem` says why `value` is missing."""

    encoding: Encoding
    value: Any = None
    problem: str = ""


def decode(body: bytes, content_type: str) -> DecodedBody:
    """Tell what a body is. Never raises.

    UTF-8 is tried first whatever the Content-Type says, since providers often send JSON as text/plain. A
    byte order mark is read over, and the body is then kept as text, mark included. Other bytes are read by
    the charset that the Content-Type names and kept as base64.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_by_charset(body, content_type)
    marked = text.startswith(_BOM)
    try:
        value = jsontext.loads(text.removeprefix(_BOM))
    except ValueError as error:
        return DecodedBody(Encoding.TEXT, problem=_not_json(error))
    return DecodedBody(Encoding.TEXT if marked else Encoding.JSON, value)


def _decode_by_charset(body: bytes, content_type: str) -> DecodedBody:
    charset = charset_of(content_type)
    if charset is None and body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        charset = "utf-16"
    if charset is None:
        problem = "the body is not UTF-8; name its charset in the Content-Type"
        return DecodedBody(Encoding.BASE64, problem=problem)
    try:
        # Only codecs between text and bytes are allowed by bytes.decode: no zlib, no rot13.
        value = jsontext.loads(body.decode(charset).removeprefix(_BOM))
    except (LookupError, UnicodeError):
        return DecodedBody(Encoding.BASE64, problem=f"the body is not {charset[:40]!r} text")
    except ValueError as error:
        return DecodedBody(Encoding.BASE64, problem=_not_json(error))
    return DecodedBody(Encoding.BASE64, value)


def charset_of(content_type: str) -> str | None:
    """The charset parameter of a Content-Type, or None."""
    if "charset" not in content_type.lower():
        return None
    message = Message()
    message["content-type"] = content_type
    charset = message.get_param("charset")
    return charset.strip() if isinstance(charset, str) and charset.strip() else None


def _not_json(error: ValueError) -> str:
    return f"the body is not JSON: {error}"
