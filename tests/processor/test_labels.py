"""A stranger's label becomes a file name that no file system and no form trips over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.labels import MAX_NAME_BYTES, disposition_name, plain_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("", ""),
        ("attachment", ""),
        ("attachment; filename=contrato.pdf", "contrato.pdf"),
        ('attachment; filename="Contrato; 2025.pdf"; size=3', "Contrato; 2025.pdf"),
        (r'attachment; filename="um \"bom\" contrato.pdf"', 'um "bom" contrato.pdf'),
        ("ATTACHMENT;FileName = contrato.pdf ", "contrato.pdf"),
        ("attachment; filename*=UTF-8''Contrato%20de%20loca%C3%A7%C3%A3o.pdf", "Contrato de locação.pdf"),
        ("attachment; filename*=iso-8859-1'pt'loca%E7%E3o.pdf", "locação.pdf"),
        ("attachment; filename=\"x.pdf\"; filename*=UTF-8''%C3%A7.pdf", "ç.pdf"),
        ("attachment; filename*=UTF-8''%C3%A7.pdf; filename=\"x.pdf\"", "ç.pdf"),
        ('attachment; filename="x.pdf"; filename*=broken', "x.pdf"),
        ("attachment; filename=\"x.pdf\"; filename*=utf-7''+AOc-.pdf", "x.pdf"),
        ('attachment; filename="locação.pdf"', "locação.pdf"),
        ('attachment; filename="locação.pdf"'.encode().decode("latin-1"), "locação.pdf"),
        ('attachment; other="; filename=evil.pdf"; filename=good.pdf', "good.pdf"),
        ('attachment; filename="never closed', '"never closed'),
    ],
)
def test_the_name_in_a_content_disposition(header: str, name: str) -> None:
    """RFC 6266, and what servers make of it."""
    assert disposition_name(header) == name


@pytest.mark.parametrize(
    ("label", "ending", "name"),
    [
        ("Contrato 2025-0042.pdf", "pdf", "Contrato 2025-0042.pdf"),
        ("Contrato.PDF", "pdf", "Contrato.pdf"),
        ("Contrato v1.2", "pdf", "Contrato v1.2.pdf"),
        ("Contrato.pdf.p7s", "p7s", "Contrato.pdf.p7s"),
        ("Contrato.pdf", "zip", "Contrato.pdf.zip"),
        ("../../etc/passwd", "pdf", "passwd.pdf"),
        ("C:\\Users\\eu\\Contrato.pdf", "pdf", "Contrato.pdf"),
        ("folder/", "pdf", "folder.pdf"),
        ("...hidden.pdf", "pdf", "hidden.pdf"),
        ("a\x00b\r\nc\u202efdp.pdf", "pdf", "ab cfdp.pdf"),
        ("a<b>:c|d?.pdf", "pdf", "a_b__c_d_.pdf"),
        ("Locac\u0327a\u0303o.pdf", "pdf", "Locação.pdf"),
        ("lone \ud800 half.pdf", "pdf", "lone  half.pdf"),
        ("", "pdf", "155_signed.pdf"),
        ("  ..  ", "pdf", "155_signed.pdf"),
        ("minuta.rtf", "bin", "minuta.rtf"),
        ("minuta", "bin", "minuta.bin"),
        ("minuta.not an ending", "bin", "minuta.not an ending.bin"),
    ],
)
def test_a_label_becomes_a_plain_file_name(label: str, ending: str, name: str) -> None:
    """With the ending of the content, and of a path only the last part."""
    assert plain_name(label, ending, "155_signed") == name


def test_a_long_label_is_cut_between_letters_and_keeps_its_ending() -> None:
    """In bytes, since that is what file systems count."""
    name = plain_name("ã" * 500 + ".pdf", "pdf", "155_signed")
    assert name == "ã" * 73 + ".pdf"
    assert len(name.encode()) == MAX_NAME_BYTES


@given(label=st.text(max_size=200), ending=st.sampled_from(["pdf", "zip", "p7s", "bin"]))
def test_no_label_makes_an_unfit_name(label: str, ending: str) -> None:
    """No path, nothing hidden or invisible, never empty, never too long."""
    name = plain_name(label, ending, "155_signed")
    stem, _, end = name.rpartition(".")
    assert stem
    assert ending in (end, "bin")
    assert name.isprintable()
    assert not name.startswith(".")
    assert not set(name) & set('/\\<>:"|?*')
    assert len(name.encode()) <= MAX_NAME_BYTES
