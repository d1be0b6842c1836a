"""Checks that a fetched file is whole and what it says it is.

This is wholeness: a file that passes was not cut off, damaged or replaced by an error page. Whether its
signatures are right, and whose they are, is a cryptographic question, which `processor.signatures` asks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.parsers import expat

from processor.unpack import MAX_ENTRIES, MAX_UNPACKED_BYTES, open_zip
from shared.errors import NotReadyError, PermanentError, TransientError

_PIECE_BYTES = 64 * 1024
_HEAD_BYTES = 1024
_TAIL_BYTES = 2048
_BOM = b"\xef\xbb\xbf"
_JSON = re.compile(rb'\{\s*["}]|\[\s*[]\[{"0-9-]')
_PAGES = frozenset({"text/html", "text/plain"})
"""Labels of what is meant for people: an answer of no known kind with one of these is a notice."""
_XML_SIGNATURE = "http://www.w3.org/2000/09/xmldsig# Signature"
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
"""The object identifier 1.2.840.113549.1.7.2 that opens every CMS signature."""

# What is a zip inside and has an ending of its own.
_ZIP_ENDINGS = frozenset({"asice", "asics", "sce", "scs", "docx", "xlsx", "pptx", "odt", "ods", "odp"})
_CMS_ENDINGS = frozenset({"p7s", "p7m"})

MEDIA_TYPES = {
    "pdf": "application/pdf",
    "p7m": "application/pkcs7-mime",
    "p7s": "application/pkcs7-signature",
    "xml": "application/xml",
    "zip": "application/zip",
}
"""The media type of each ending that leaves no doubt."""


def check_file(
    path: Path, head: bytes, media_type: str, name: str, *, any_kind: bool = False, signed: bool = True
) -> str:
    """The ending that fits a file's content: `pdf`, `zip`, `p7s`, ...

    `head` is the beginning of the file; `media_type` and `name` are the provider's labels, which count only
    where the content leaves a choice. With `any_kind`, content of no known kind that does not claim to be of
    one is `bin`. With `signed`, XML has to hold a signature, since errors of APIs are XML too.

    Raises:
        NotReadyError: the file is empty.
        TransientError: it is cut off or damaged, or an error page or a JSON answer stands in its place.
        PermanentError: it is of no known kind.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise NotReadyError("the provider's file is empty: not ready")
    beginning, end = _both_ends(path, size_bytes)
    text = beginning.removeprefix(_BOM).lstrip()
    if _JSON.match(text):
        raise TransientError("the provider sent JSON where a file should be: it is fetched again")
    if text[:256].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        raise _html_page()
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _check_zip(path, name)
    if text.startswith((b"-----BEGIN PKCS7", b"-----BEGIN CMS")):
        return _check_pem(end, name)
    if head.startswith(b"\x30") and _SIGNED_DATA in beginning[:32]:
        return _check_der(beginning, end, size_bytes, name)
    if text.startswith(b"<"):
        return _check_xml(path, signed)
    # Asked last, since it may stand behind a few bytes of something else, or inside of one of the others.
    if b"%PDF-" in beginning:
        return _check_pdf(end)
    if any_kind and ending_of(name) not in MEDIA_TYPES:
        return "bin"
    raise _no_file(media_type, name)


def ending_of(name: str) -> str:
    """What stands behind the last dot of a label, in lower case; empty without a dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def _no_file(media_type: str, name: str) -> PermanentError | TransientError:
    if media_type in _PAGES:
        return TransientError("the provider sent a text where a file should be: it is fetched again")
    labels = "".join(char for char in f"{media_type} {ending_of(name)}" if char.isprintable())[:80]
    return PermanentError(
        f"the file is none of PDF, zip, p7s and XML (labelled {labels.strip() or 'not at all'}): "
        "look at the document at the provider"
    )


def _both_ends(path: Path, size_bytes: int) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        beginning = file.read(_HEAD_BYTES)
        file.seek(max(0, size_bytes - _TAIL_BYTES), os.SEEK_SET)
        return beginning, file.read(_TAIL_BYTES)


def _check_pdf(end: bytes) -> str:
    if b"%%EOF" not in end:
        raise TransientError("the PDF is cut off: it is fetched again")
    return "pdf"


def _check_zip(path: Path, name: str) -> str:
    with open_zip(path, max_entries=MAX_ENTRIES, max_total_bytes=MAX_UNPACKED_BYTES) as archive:
        for entry in archive.infolist():
            # Reading to the end compares the checksum.
            with archive.open(entry) as content:
                while content.read(_PIECE_BYTES):
                    pass
    ending = ending_of(name)
    return ending if ending in _ZIP_ENDINGS else "zip"


def _check_pem(end: bytes, name: str) -> str:
    last_line = end.rstrip().rpartition(b"\n")[2]
    if not (last_line.startswith((b"-----END PKCS7", b"-----END CMS")) and last_line.endswith(b"-----")):
        raise TransientError("the signature file is cut off: it is fetched again")
    return _cms_ending(name)


def _check_der(beginning: bytes, end: bytes, size_bytes: int, name: str) -> str:
    first = beginning[1]
    if first == 0x80:
        # Of a length that was not known in advance: two zero bytes close it.
        whole = end.endswith(b"\0\0")
    elif first < 0x80:
        whole = 2 + first == size_bytes
    else:
        length_bytes = first & 0x7F
        length = int.from_bytes(beginning[2 : 2 + length_bytes], "big")
        whole = 2 + length_bytes + length == size_bytes
    if not whole:
        raise TransientError("the signature file is cut off or has bytes behind its end: it is fetched again")
    return _cms_ending(name)


def _cms_ending(name: str) -> str:
    ending = ending_of(name)
    return ending if ending in _CMS_ENDINGS else "p7s"


def _check_xml(path: Path, signed: bool) -> str:
    parser = expat.ParserCreate(namespace_separator=" ")
    has_signature = False

    def begin_type(name: str, *_declaration: object) -> None:
        # Without a document type there are no entities, and so nothing that a small text could blow up to.
        if name.lower() == "html":
            raise _html_page()
        raise PermanentError(
            "the XML declares a document type, which no signed file needs: look at it at the provider"
        )

    def begin_root(name: str, *_attributes: object) -> None:
        if name.rpartition(" ")[2].lower() == "html":
            raise _html_page()
        parser.StartElementHandler = look_for_signature
        look_for_signature(name)

    def look_for_signature(name: str, *_attributes: object) -> None:
        nonlocal has_signature
        has_signature = has_signature or name == _XML_SIGNATURE

    parser.StartDoctypeDeclHandler = begin_type
    parser.StartElementHandler = begin_root
    try:
        with path.open("rb") as file:
            while data := file.read(_PIECE_BYTES):
                parser.Parse(data, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise TransientError("the XML is cut off or damaged: it is fetched again") from error
    if signed and not has_signature:
        raise TransientError("the provider sent XML without a signature: it is fetched again")
    return "xml"


def _html_page() -> TransientError:
    return TransientError("the provider sent an HTML page where a file should be: it is fetched again")
