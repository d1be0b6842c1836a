"""Files for the simulated world: small valid PDFs, detached signatures and zips, the same on every run."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence

_OBJECTS_BEFORE_PAGE = (
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R "
    b"/Resources << /Font << /F1 4 0 R >> >> >>",
    b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
)
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_ZIP_DATE = (2026, 1, 1, 0, 0, 0)


def make_pdf(text: str, size_bytes: int | None = None) -> bytes:
    """A PDF of one page that shows the lines of `text`; the same text and size give the same bytes.

    `size_bytes` is the exact length to pad to. The padding hardly compresses, so that a large file in a zip
    does not look like an attack.

    Raises:
        ValueError: the PDF of this text is longer than `size_bytes`.
    """
    plain = _pdf(text, b"")
    if size_bytes is None:
        return plain
    missing = size_bytes - len(plain)
    if missing < 0:
        raise ValueError(f"size_bytes is {size_bytes}, this text needs at least {len(plain)}")
    return _pdf(text, _padding(text, missing))


def make_p7s(content: bytes) -> bytes:
    """DER that looks like a detached CMS signature of `content` from outside. It proves nothing."""
    digest = _der(0x04, hashlib.sha256(content).digest())
    return _der(0x30, _SIGNED_DATA + _der(0xA0, digest))


def make_zip(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """A zip of (name, content) pairs in the given order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def _pdf(text: str, padding: bytes) -> bytes:
    page = _page(text)
    stream = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page)
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate((*_OBJECTS_BEFORE_PAGE, stream), start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    out += padding
    xref_at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    # The offset is written with leading zeros, so that padding does not change the length of what follows it.
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%010d\n%%%%EOF\n" % (len(offsets) + 1, xref_at)
    return bytes(out)


def _page(text: str) -> bytes:
    lines = []
    for line in text.splitlines():
        escaped = line.encode("cp1252", "replace")
        for char in (b"\\", b"(", b")"):
            escaped = escaped.replace(char, b"\\" + char)
        lines.append(b"(%s) Tj T*" % escaped)
    return b"BT /F1 12 Tf 18 TL 50 780 Td\n%s\nET" % b"\n".join(lines)


def _padding(text: str, length: int) -> bytes:
    """A comment line of exactly `length` bytes."""
    if length < 2:
        return b"\n" * length
    noise = hashlib.shake_256(text.encode("utf-8")).hexdigest(length // 2).encode("ascii")
    return b"%" + noise[: length - 2] + b"\n"


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content
