"""The made files are what they claim to be."""

from __future__ import annotations

import io
import re
import zipfile

import pytest

from simulator.files import make_p7s, make_pdf, make_zip


def number_in(pattern: bytes, pdf: bytes) -> int:
    found = re.search(pattern, pdf)
    assert found is not None
    return int(found[1])


def offsets_of(pdf: bytes) -> list[int]:
    """The byte offsets in the cross-reference table, checked for the table's own place."""
    start = number_in(rb"startxref\n(\d+)\n%%EOF\n$", pdf)
    assert pdf[start : start + 5] == b"xref\n"
    return [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n \n", pdf[start:])]


@pytest.mark.parametrize("size_bytes", [None, 1_000, 100_000])
def test_every_offset_of_a_pdf_points_at_its_object(size_bytes: int | None) -> None:
    pdf = make_pdf("Contrato (1) \\ não", size_bytes)
    offsets = offsets_of(pdf)
    assert len(offsets) == 5
    for number, offset in enumerate(offsets, start=1):
        assert pdf[offset:].startswith(b"%d 0 obj\n" % number)


def test_the_stream_of_a_pdf_has_the_length_it_claims_and_shows_the_escaped_words() -> None:
    pdf = make_pdf("Contrato (1)\nnão")
    length = number_in(rb"/Length (\d+)", pdf)
    start = pdf.index(b"stream\n") + len(b"stream\n")
    stream = pdf[start : start + length]
    assert pdf[start + length :].startswith(b"\nendstream")
    assert b"(Contrato \\(1\\)) Tj" in stream
    assert "(não) Tj".encode("cp1252") in stream


def test_pdfs_are_the_same_per_text_and_differ_between_texts() -> None:
    assert make_pdf("a") == make_pdf("a")
    assert make_pdf("a") != make_pdf("b")
    assert make_pdf("a", 5_000) == make_pdf("a", 5_000)
    assert make_pdf("a", 5_000) != make_pdf("b", 5_000)


def test_a_padded_pdf_has_exactly_the_wanted_length() -> None:
    least = len(make_pdf("a"))
    for size_bytes in (least, least + 1, least + 2, least + 3, 10_001):
        assert len(make_pdf("a", size_bytes)) == size_bytes
    with pytest.raises(ValueError, match=str(least)):
        make_pdf("a", least - 1)


@pytest.mark.parametrize("content", [b"", b"x" * 1_000])
def test_a_signature_is_one_whole_der_sequence_with_the_oid_of_signed_data(content: bytes) -> None:
    der = make_p7s(content)
    assert der[0] == 0x30
    assert der[1] == len(der) - 2
    assert der[2:13] == bytes.fromhex("06092a864886f70d010702")
    assert make_p7s(b"other") != der


def test_a_zip_keeps_order_and_content_and_is_the_same_each_time() -> None:
    entries = [("não.pdf", b"1" * 500), ("a.p7s", b"2")]
    made = make_zip(entries)
    assert made == make_zip(entries)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert [(name, archive.read(name)) for name in archive.namelist()] == entries
