"""XML from strangers: read, or refused without a word of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.xmltext import parse_xml


def test_elements_are_read_and_comments_left_out() -> None:
    root = parse_xml(b"<?xml version='1.0'?><a><!-- c --><?pi x?><b>1</b></a>")
    assert [(child.tag, child.text) for child in root] == [("b", "1")]


@pytest.mark.parametrize("body", [b"", b"<a>", b"{}", b"<a>&secret;</a>", b"\xff\xfe", b"<a xmlns:b=''/>"])
def test_what_is_no_xml_is_refused_and_not_repeated(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the body is not well-formed XML$"):
        parse_xml(body)


def test_what_declares_entities_is_refused_and_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for entity in ('"x"', f'SYSTEM "{(tmp_path / "secret").as_uri()}"'):
        with pytest.raises(ValueError, match=r"^the XML has a DOCTYPE"):
            parse_xml(f"<!DOCTYPE a [<!ENTITY e {entity}>]><a>&e;</a>".encode())
