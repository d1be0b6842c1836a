"""A whole file gets its ending; a cut off, damaged or replaced one never does."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from processor.verify import check_file
from shared.errors import NotReadyError, PermanentError, TransientError

PDF = b"%PDF-1.7\n" + b"1 0 obj\n" * 1000 + b"startxref\n0\n%%EOF\n"
SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")


def der(content: bytes) -> bytes:
    """A SEQUENCE with a length of two bytes."""
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.writestr(name, PDF)
    return buffer.getvalue()


P7S = der(SIGNED_DATA + bytes(3000))
PEM = b"-----BEGIN PKCS7-----\n" + b"MIIB\n" * 900 + b"-----END PKCS7-----\n"
XML = (
    b'<?xml version="1.0"?>\n<Contrato><s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#">'
    + b"x" * 3000
    + b"</s:Signature></Contrato>\n"
)


@pytest.fixture
def check(tmp_path: Path) -> object:
    return Checker(tmp_path / "file")


class Checker:
    """Writes content to a file and has it checked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, data: bytes, *, media_type: str = "", name: str = "", **options: bool) -> str:
        self._path.write_bytes(data)
        return check_file(self._path, data[:16], media_type, name, **options)


@pytest.mark.parametrize(
    ("data", "name", "ending"),
    [
        (PDF, "", "pdf"),
        (PDF, "contrato.zip", "pdf"),
        (b"\r\n junk \r\n" + PDF + b"\n" * 1000, "", "pdf"),
        (zipped("a.pdf", "b.pdf"), "contrato.pdf", "zip"),
        (zipped(), "", "zip"),
        (zipped("word/document.xml"), "Minuta.DOCX", "docx"),
        (zipped("META-INF/signature.p7s"), "contrato.asice", "asice"),
        (P7S, "", "p7s"),
        (P7S, "contrato.p7m", "p7m"),
        (b"\x30\x0e" + SIGNED_DATA + bytes(3), "", "p7s"),
        (b"\x30\x80" + SIGNED_DATA + bytes(3000), "", "p7s"),
        (PEM, "", "p7s"),
        (PEM.replace(b"PKCS7", b"CMS"), "", "p7s"),
        (XML, "", "xml"),
        (b"\xef\xbb\xbf" + XML, "", "xml"),
    ],
)
def test_a_whole_file_gets_the_ending_of_its_content(
    check: Checker, data: bytes, name: str, ending: str
) -> None:
    """The label counts only where the content leaves a choice."""
    assert check(data, name=name) == ending


def test_an_empty_file_is_not_ready(check: Checker) -> None:
    """Providers answer like that while they are still signing."""
    with pytest.raises(NotReadyError):
        check(b"", media_type="application/pdf")


@pytest.mark.parametrize(
    "whole", [PDF, zipped("a.pdf"), P7S, PEM, XML, b"\x30\x80" + SIGNED_DATA + b"xyz" * 999 + b"\0\0"]
)
def test_a_cut_off_file_is_fetched_again(check: Checker, whole: bytes) -> None:
    """A connection that breaks in the middle never makes a signed file."""
    for end in (len(whole) * 9 // 10, len(whole) - 10, len(whole) - 2):
        if whole[end:].strip():
            # A PDF may lack its last new line, and a marker that is cut in two is none.
            with pytest.raises(TransientError):
                check(whole[:end] if whole is not PDF else whole[: end - 4])


def test_a_signature_with_bytes_behind_its_end_is_fetched_again(check: Checker) -> None:
    """Two answers that ran into each other are not one signature."""
    with pytest.raises(TransientError):
        check(P7S + b"x")


@pytest.mark.parametrize("place", [200, 5000])
def test_a_zip_with_a_changed_byte_is_fetched_again(check: Checker, place: int) -> None:
    """Every entry is read and its checksum compared."""
    data = bytearray(zipped("a.pdf", "b.pdf"))
    data[place] ^= 1
    with pytest.raises(TransientError):
        check(bytes(data))


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html>\n<html><body>%PDF-1.7 %%EOF</body></html>",
        b"\xef\xbb\xbf  <HTML><body>Erro</body></HTML>",
        b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x" "y"><html xmlns="z"/>',
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body/></html>',
    ],
)
@pytest.mark.parametrize("any_kind", [False, True])
def test_a_page_in_place_of_a_file_is_named_and_not_quoted(
    check: Checker, page: bytes, any_kind: bool
) -> None:
    """A maintenance page is no contract, and what stands in it stays out of the log."""
    with pytest.raises(TransientError, match="HTML page") as caught:
        check(page, media_type="application/pdf", name="c.pdf", any_kind=any_kind)
    assert "Erro" not in str(caught.value)


@pytest.mark.parametrize("text", [b'{"message": "%PDF- %%EOF"}', b'[{"code": 1}]', b" \n[]", b"{}"])
def test_json_in_place_of_a_file_is_named(check: Checker, text: bytes) -> None:
    """An error of the API that came with status 200."""
    with pytest.raises(TransientError, match="JSON"):
        check(text)


@pytest.mark.parametrize(
    "data", [b"Contrato", b"MZ\x90\0", der(b"\x02\x01\x00"), b"01/02/2026", b"{\\rtf1}", b"\x89PNG\r\n"]
)
def test_content_of_no_known_kind_is_refused_unless_any_kind_will_do(check: Checker, data: bytes) -> None:
    """An original may be anything; a signed file may not."""
    with pytest.raises(PermanentError, match="text/x"):
        check(data, media_type="text/x")
    assert check(data, name="minuta.rtf", any_kind=True) == "bin"


def test_an_original_that_claims_to_be_a_pdf_has_to_be_one(check: Checker) -> None:
    """The label is a claim that can be checked."""
    with pytest.raises(PermanentError):
        check(b"Contrato", name="minuta.PDF", any_kind=True)


@pytest.mark.parametrize(
    "notice",
    [
        b"<h1>Sistema em manuten&#231;&#227;o</h1>",
        b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>',
        b"<Contrato><Signature>of no known kind</Signature></Contrato>",
    ],
)
def test_xml_that_holds_no_signature_is_no_signed_file(check: Checker, notice: bytes) -> None:
    """Errors of APIs are well-formed XML too; an original, on the other hand, need not be signed."""
    with pytest.raises(TransientError, match="without a signature"):
        check(notice)
    assert check(notice, signed=False) == "xml"


@pytest.mark.parametrize("label", ["text/html", "text/plain"])
def test_a_text_for_people_in_place_of_a_file_is_fetched_again(check: Checker, label: str) -> None:
    """A proxy says in plain words and with status 200 that the service is away."""
    with pytest.raises(TransientError, match="a text where a file should be"):
        check(b"Service unavailable", media_type=label)
    assert check(PDF, media_type=label) == "pdf"


def test_xml_with_a_document_type_is_refused(check: Checker) -> None:
    """Entities that refer to entities would take the memory."""
    with pytest.raises(PermanentError, match="document type"):
        check(b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>')


def test_labels_in_a_message_are_short_and_printable(check: Checker) -> None:
    """They are a stranger's words."""
    with pytest.raises(PermanentError) as caught:
        check(b"Contrato", name="x." + "y\n" * 5000)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
