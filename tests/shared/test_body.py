"""What a body is, whatever its Content-Type says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.body import Encoding, charset_of, decode


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "value"),
    [
        (b'{"a": "\xc3\xa9"}', "application/json", Encoding.JSON, {"a": "é"}),
        (b'{"a": "\xc3\xa9"}', "text/plain; charset=latin-1", Encoding.JSON, {"a": "é"}),
        (b'\xef\xbb\xbf{"a": "b"}', "", Encoding.TEXT, {"a": "b"}),
        (b'{"a": "\xe9"}', "application/json; charset=iso-8859-1", Encoding.BASE64, {"a": "é"}),
        (b'{"a": "\x80"}', 'text/plain; charset="windows-1252"', Encoding.BASE64, {"a": "€"}),
        ('{"a": "é"}'.encode("utf-16"), "application/json", Encoding.BASE64, {"a": "é"}),
    ],
)
def test_json_is_understood(body: bytes, content_type: str, encoding: Encoding, value: object) -> None:
    decoded = decode(body, content_type)
    assert (decoded.encoding, decoded.value, decoded.problem) == (encoding, value, "")


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "problem"),
    [
        (b"hello", "", Encoding.TEXT, "the body is not JSON"),
        (b"", "application/json", Encoding.TEXT, "the body is not JSON"),
        (b"\xe9", "", Encoding.BASE64, "name its charset"),
        (b"\xe9", "text/plain; charset=latin-1", Encoding.BASE64, "the body is not JSON"),
        (b"\xe9", "text/plain; charset=klingon", Encoding.BASE64, "'klingon' text"),
        (b"\xe9", "text/plain; charset=zlib", Encoding.BASE64, "'zlib' text"),
        (b"\xe9", "text/plain; charset=a\0b", Encoding.BASE64, "the body is not"),
        (b"\xe9", "text/plain; charset=ascii", Encoding.BASE64, "'ascii' text"),
    ],
)
def test_the_rest_has_a_problem(body: bytes, content_type: str, encoding: Encoding, problem: str) -> None:
    decoded = decode(body, content_type)
    assert (decoded.encoding, decoded.value) == (encoding, None)
    assert problem in decoded.problem


@given(
    st.binary(max_size=80), st.text(max_size=20) | st.text(max_size=30).map("text/plain; charset={}".format)
)
def test_no_body_and_no_content_type_is_an_error(body: bytes, content_type: str) -> None:
    decoded = decode(body, content_type)
    if decoded.encoding is not Encoding.BASE64:
        body.decode("utf-8")


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("", None),
        ("application/json", None),
        ("application/json; charset=UTF-8", "UTF-8"),
        ('text/plain; boundary=x; CharSet="latin-1"', "latin-1"),
        ("text/plain; charset=", None),
        ("charset", None),
        ("text/plain; charset*=utf-8''latin-1", None),
    ],
)
def test_the_charset_of_a_content_type(content_type: str, charset: str | None) -> None:
    assert charset_of(content_type) == charset
