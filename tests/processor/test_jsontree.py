"""Files come out of JSON of any shape in flat memory, and the rest of it stays as it was."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.jsontree import MAX_DEPTH, MAX_REST_BYTES, JsonTreeDecoder
from processor.unpack import MAX_FILES
from shared.errors import PermanentError, TransientError
from tests.processor.test_unpack import Counting

FIELDS = frozenset({"base64", "documento"})
MIB = 1024 * 1024
PDF = b"%PDF-1.7\n" + bytes(range(256)) + b"\n%%EOF\n"
BASE64 = base64.b64encode(PDF).decode()


def decode(text: bytes, *, chunk_bytes: int = 65_536) -> tuple[Any, list[bytes]]:
    decoder = JsonTreeDecoder(io.BytesIO, FIELDS)
    for start in range(0, len(text), chunk_bytes):
        decoder.feed(text[start : start + chunk_bytes])
    rest, sinks = decoder.close()
    return json.loads(rest), [sink.getvalue() for sink in sinks]


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5).filter(lambda key: key.strip().casefold() not in FIELDS), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(value=plain_values, chunk_bytes=st.integers(1, 40), spaced=st.booleans(), ascii_only=st.booleans())
def test_json_without_files_stays_as_it_was(
    value: Any, chunk_bytes: int, spaced: bool, ascii_only: bool
) -> None:
    value = [value]
    text = json.dumps(value, indent=1 if spaced else None, ensure_ascii=ascii_only)
    assert decode(text.encode("utf-8", "surrogatepass"), chunk_bytes=chunk_bytes) == (value, [])


@given(datas=st.lists(st.binary(min_size=1, max_size=99), max_size=4), chunk_bytes=st.integers(1, 40))
def test_each_file_goes_to_its_own_sink_and_its_place_says_which(
    datas: list[bytes], chunk_bytes: int
) -> None:
    tree = {"a": [{"x": 1, "BASE64 ": base64.b64encode(data).decode(), "n": "é"} for data in datas]}
    rest, files = decode(json.dumps(tree).encode(), chunk_bytes=chunk_bytes)
    assert rest == {"a": [{"x": 1, "BASE64 ": place, "n": "é"} for place in range(len(datas))]}
    assert files == datas


def test_a_field_of_the_name_may_hold_an_object_with_the_file_inside() -> None:
    rest, files = decode(json.dumps({"documento": {"documento": BASE64, "nome": "a.pdf"}}).encode())
    assert rest == {"documento": {"documento": 0, "nome": "a.pdf"}}
    assert files == [PDF]


@pytest.mark.parametrize(
    "value",
    [
        "null",
        '""',
        '" "',
        "7",
        "true",
        '"https://x.example/a.pdf"',
        '"JVBERi0=JVBE"',
        '"JVBER"',
        '"JVBE!"',
    ],
)
def test_what_is_no_file_is_null_and_never_the_index_of_another(value: str) -> None:
    text = f'[{{"base64": {value}}}, {{"base64": "{BASE64}"}}]'.encode()
    for chunk_bytes in (1, 65_536):
        rest, files = decode(text, chunk_bytes=chunk_bytes)
        assert rest[0] == {"base64": None}
        assert files[rest[1]["base64"]] == PDF


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b'{"base64": "JVBE',
        b'{"a": 1',
        b'{"a": 1} {}',
        b'{"a": 01}',
        b'{"a" 1}',
        b"[1,]",
        b"42",
        b'"Erro interno"',
        b'{"a": "x\ny"}',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 65_536])
def test_what_is_no_json_is_fetched_again(text: bytes, chunk_bytes: int) -> None:
    with pytest.raises(TransientError):
        decode(text, chunk_bytes=chunk_bytes)


def test_more_files_than_the_limit_and_more_rest_than_the_limit_are_refused() -> None:
    files = [{"base64": "JVBE"}] * MAX_FILES
    assert len(decode(json.dumps(files).encode())[1]) == MAX_FILES
    with pytest.raises(PermanentError, match="files"):
        decode(json.dumps([*files, {"base64": "JVBE"}]).encode())
    decode(b'["' + b"a" * (MAX_REST_BYTES - 4) + b'"]')
    with pytest.raises(PermanentError, match="besides"):
        decode(b'["' + b"a" * (MAX_REST_BYTES - 3) + b'"]')


def test_memory_does_not_grow_with_the_files() -> None:
    decoder = JsonTreeDecoder(Counting, FIELDS)
    block = b"JVBE" * 16_384
    tracemalloc.start()
    decoder.feed(b'{"status": "x", "documentos": [{"base64": "')
    for _ in range(64 * MIB // len(block)):
        decoder.feed(block)
    decoder.feed(b'"}]}')
    rest, [sink] = decoder.close()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert json.loads(rest) == {"status": "x", "documentos": [{"base64": 0}]}
    assert sink.size_bytes == 48 * MIB
    assert peak_bytes < MIB
