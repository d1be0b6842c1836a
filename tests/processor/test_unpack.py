"""Files come out of JSON and of zips exactly, in flat memory, and damage never passes for a file."""

from __future__ import annotations

import base64
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.unpack import MAX_FILES, JsonFilesDecoder, Part, expand_zip
from shared.errors import NotReadyError, PermanentError, SignspoolError, TransientError

PDF = b"%PDF-1.7\n" + bytes(range(256)) + b"\n%%EOF\n"
MIB = 1024 * 1024
CHUNK_BYTES = 65_536


def decode(text: bytes, *, chunk_bytes: int = CHUNK_BYTES) -> list[Part[io.BytesIO]]:
    decoder = JsonFilesDecoder(io.BytesIO)
    for start in range(0, len(text), chunk_bytes):
        decoder.feed(text[start : start + chunk_bytes])
    return decoder.close()


def as_values(parts: list[Part[io.BytesIO]]) -> list[tuple[str, str, bytes]]:
    return [(part.name, part.media_type, part.sink.getvalue()) for part in parts]


def package(data: bytes = PDF, **other: Any) -> dict[str, Any]:
    return {
        "name": "Contrato 2025-0042.pdf",
        "mimeType": "application/pdf",
        "bytes": base64.b64encode(data).decode(),
        **other,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e6, 1e6) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
extra_keys = st.text(max_size=8).filter(lambda key: key.casefold() not in {"name", "mimetype", "bytes"})


@st.composite
def spelled_packages(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[str, str, bytes]]:
    """A package in one of its spellings, and what it holds."""
    name, media_type = draw(st.text(max_size=20)), draw(st.text(max_size=20))
    data = draw(st.binary(min_size=1, max_size=200))
    text = base64.b64encode(data).decode()
    spelling = draw(st.sampled_from(["plain", "numbers", "unpadded", "url-safe", "lines"]))
    spellings: dict[str, str | list[int]] = {
        "plain": text,
        "numbers": list(data),
        "unpadded": text.rstrip("="),
        "url-safe": base64.urlsafe_b64encode(data).decode(),
        "lines": base64.encodebytes(data).decode().replace("\n", draw(st.sampled_from(["\n", "\r\n", " "]))),
    }
    keys = draw(
        st.sampled_from(["name mimeType bytes", "NAME MIMETYPE BYTES", "Name MimeType Bytes"])
    ).split()
    members: list[tuple[str, Any]] = [
        *zip(keys, (name, media_type, spellings[spelling]), strict=True),
        *draw(st.dictionaries(extra_keys, json_values, max_size=3)).items(),
    ]
    expected = (_encodable(name), _encodable(media_type), data)
    return dict(draw(st.permutations(members))), expected


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@given(
    packages=st.lists(spelled_packages(), min_size=1, max_size=4),
    as_array=st.booleans(),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    slashes=st.booleans(),
    cuts=st.data(),
)
@settings(deadline=None, max_examples=80)
def test_any_package_in_any_chunks_decodes_like_json_and_base64(
    *,
    packages: list[tuple[dict[str, Any], tuple[str, str, bytes]]],
    as_array: bool,
    indent: int | None,
    ascii_only: bool,
    slashes: bool,
    cuts: st.DataObject,
) -> None:
    """Both spellings of the bytes, any key order, further keys, escapes, and cuts anywhere."""
    if not as_array:
        packages = packages[:1]
    value = [spelled for spelled, _ in packages] if as_array else packages[0][0]
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    if slashes:
        text = text.replace("/", "\\/").replace("+", "\\u002b")
    assert json.loads(text) == value
    data = text.encode("utf-8", "surrogatepass")
    places = cuts.draw(st.lists(st.integers(0, len(data)), max_size=20).map(sorted))
    decoder = JsonFilesDecoder(io.BytesIO)
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        decoder.feed(data[start:end])

    assert as_values(decoder.close()) == [expected for _, expected in packages]


@pytest.mark.parametrize("numbers", [False, True])
def test_every_single_byte_may_be_a_chunk(numbers: bool) -> None:
    """A cut inside an escape, a number or a group of four letters changes nothing."""
    spelled = list(PDF) if numbers else base64.b64encode(PDF).decode()
    text = json.dumps([package(bytes=spelled)]).replace("/", "\\u002F").encode()

    assert as_values(decode(text, chunk_bytes=1)) == [("Contrato 2025-0042.pdf", "application/pdf", PDF)]


def test_a_byte_order_mark_is_read_over() -> None:
    """Some servers put one before the JSON."""
    assert decode(b"\xef\xbb\xbf" + json.dumps(package()).encode())[0].sink.getvalue() == PDF


def test_an_empty_array_holds_no_files() -> None:
    """What that means is for the provider's file to say."""
    assert decode(b" [ ] ") == []


@pytest.mark.parametrize("spelled", [None, "", [], "  "])
def test_a_file_without_bytes_is_not_ready(spelled: object) -> None:
    """The provider names the file and has not made it yet."""
    with pytest.raises(NotReadyError):
        decode(json.dumps([package(), package(bytes=spelled)]).encode())


@pytest.mark.parametrize("spelled", [base64.b64encode(PDF).decode(), list(PDF)])
def test_every_cut_off_answer_is_noticed(spelled: object) -> None:
    """No beginning of an answer passes for the whole, wherever it was cut."""
    text = json.dumps([package(bytes=spelled, more={"a": [1, True, "x"]})]).encode()
    for end in range(len(text)):
        with pytest.raises(TransientError):
            decode(text[:end])


@pytest.mark.parametrize(
    "text",
    [
        b"<!DOCTYPE html><html><body>503</body></html>",
        b'"Erro interno"',
        b"42",
        b"[null]",
        b"[[]]",
        b'{"message": "not found"}',
        b'{"bytes": {"a": 1}}',
        b'{"bytes": true}',
        b'{"bytes": 37}',
        b'{"bytes": [37, 256]}',
        b'{"bytes": [37, -1]}',
        b'{"bytes": [37, 1.5]}',
        b'{"bytes": [37, null]}',
        b'{"bytes": [37 38]}',
        b'{"bytes": [37,, 38]}',
        b'{"bytes": [, 38]}',
        b'{"bytes": [37, 38, ]}',
        b'{"bytes": [37, [38]]}',
        b'{"bytes": [037]}',
        b'{"bytes": [37}',
        b'{"bytes": [' + b"9" * 5000 + b"]}",
        b'{"bytes": [' + b" " * 5000 + b"x]}",
        b'{"bytes": "JVBE!kYt"}',
        b'{"bytes": "JVBE!!!!"}',
        b'{"bytes": "JVBE\\u0141\\u0141\\u0141\\u0141"}',
        b'{"bytes": "JVBERi0=JVBE"}',
        b'{"bytes": "JVBER"}',
        b'{"bytes": "JVBERi0=="}',
        b'{"bytes": "===="}',
        b'{"bytes": "JVBE\\u0141kYt"}',
        b'{"bytes": "JV\nBE"}',
        b'{"bytes": "JV\\xBE  "}',
        b'{"bytes": "JVBE", "Bytes": "JVBE"}',
        b'{"bytes": "JVBE",}',
        b'{"bytes" "JVBE"}',
        b'{bytes: "JVBE"}',
        b'{"bytes": "JVBE"} {}',
        b'[{"bytes": "JVBE"},]',
        b'[{"bytes": "JVBE"} {"bytes": "JVBE"}]',
        b'{"bytes": "JVBE", "more": nul}',
        b'{"bytes": "JVBE", "more": 01}',
        b'{"bytes": "JVBE", "more": {"a" 1}}',
        b'{"bytes": "JVBE", "more": {1: 1}}',
        b'{"bytes": "JVBE", "more": ' + b"9" * 500 + b"}",
        b'{"bytes": "JVBE", "more": ' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"bytes": "JVBE", "name": "' + b"n" * 5000 + b'"}',
        b'{"bytes": "JVBE", "name": "\xff"}',
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, CHUNK_BYTES])
def test_what_is_not_a_package_is_fetched_again(text: bytes, chunk_bytes: int) -> None:
    """Error pages and broken JSON come of bad moments: no file is made of them, and it is tried again."""
    with pytest.raises(TransientError) as caught:
        decode(text, chunk_bytes=chunk_bytes)
    assert not isinstance(caught.value, NotReadyError)


def test_an_error_of_the_sink_passes_through() -> None:
    """A full disk is not the provider's fault."""

    class FullDisk:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        JsonFilesDecoder(FullDisk).feed(json.dumps(package()).encode())


def test_more_files_than_the_limit_are_refused() -> None:
    """An answer without end would fill the folder."""
    files = [package(b"x")] * MAX_FILES
    assert len(decode(json.dumps(files).encode())) == MAX_FILES
    with pytest.raises(PermanentError):
        decode(json.dumps([*files, package(b"x")]).encode())


class Counting:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)


def streamed_answer(item: bytes, times: int) -> Iterator[bytes]:
    opening, closing = (b"[", b"0]") if b"," in item else (b'"', b'"')
    yield b'{"name": "big.pdf", "bytes": ' + opening
    block = item * (CHUNK_BYTES // len(item))
    for _ in range(times):
        yield block
    yield closing + b', "mimeType": "application/pdf"}'


@pytest.mark.parametrize(
    ("item", "item_bytes", "text_bytes"),
    [
        (b"JVBE", 3, 64 * MIB),
        # Tracing makes each allocation slow, and these make many; their peak is reached early.
        (b"\\/\\u002bBE", 3, 2 * MIB),
        (b"255,", 1, 2 * MIB),
        (b"7,\n   8, ", 2, 2 * MIB),
    ],
)
def test_memory_stays_flat_however_long_the_answer_is(item: bytes, item_bytes: int, text_bytes: int) -> None:
    """The peak is that of one piece, whatever the length and the spelling."""
    times = text_bytes // CHUNK_BYTES
    decoder = JsonFilesDecoder(Counting)
    tracemalloc.start()
    try:
        for chunk in streamed_answer(item, times):
            decoder.feed(chunk)
        [part] = decoder.close()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    items = (CHUNK_BYTES // len(item)) * times
    assert part.sink.size_bytes == items * item_bytes + (b"," in item)
    assert peak_bytes < 2 * MIB


# Zip


def make_zip(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_zip_gives_its_files_under_their_labels(tmp_path: Path) -> None:
    """Folders are passed over; a name that looks like a path is only a label."""
    path = make_zip(tmp_path / "0", {"a.pdf": PDF, "folder/": b"", "../../etc/passwd": b"x", "vazio": b""})

    parts = expand_zip(path, io.BytesIO, max_total_bytes=MIB)

    assert as_values(parts) == [("a.pdf", "", PDF), ("../../etc/passwd", "", b"x"), ("vazio", "", b"")]
    assert [item.name for item in tmp_path.iterdir()] == ["0"]


def test_a_zip_that_unpacks_beyond_the_limit_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A bomb costs nothing."""
    path = make_zip(tmp_path / "bomb", {"zeros": bytes(MIB), "more": b"x"})
    opened: list[io.BytesIO] = []

    def open_file() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[-1]

    with pytest.raises(PermanentError):
        expand_zip(path, open_file, max_total_bytes=MIB)
    assert not opened
    assert len(expand_zip(path, open_file, max_total_bytes=MIB + 1)) == 2


def test_a_zip_that_lies_about_its_sizes_gives_no_more_than_it_says(tmp_path: Path) -> None:
    """What is unpacked is bounded by what was checked."""
    path = make_zip(tmp_path / "liar", {"zeros": bytes(MIB)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", MIB), struct.pack("<L", 10)))
    sink = io.BytesIO()

    with pytest.raises(TransientError):
        expand_zip(path, lambda: sink, max_total_bytes=100)
    assert len(sink.getvalue()) <= 10


def test_a_zip_with_too_many_entries_is_refused(tmp_path: Path) -> None:
    """One more than the limit, and far more than a list in memory should hold."""
    names = {str(number): b"" for number in range(MAX_FILES + 1)}
    with pytest.raises(PermanentError, match="entries"):
        expand_zip(make_zip(tmp_path / "many", names), io.BytesIO, max_total_bytes=MIB)
    names = {f"{number:0>200}": b"" for number in range(6000)}
    with pytest.raises(PermanentError, match="list of entries"):
        expand_zip(make_zip(tmp_path / "masses", names), io.BytesIO, max_total_bytes=MIB)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    """We have no password, and asking again does not bring one."""
    path = make_zip(tmp_path / "locked", {"a.pdf": PDF}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + place] |= 1
    path.write_bytes(data)

    with pytest.raises(PermanentError, match="encrypted"):
        expand_zip(path, io.BytesIO, max_total_bytes=MIB)


def test_an_unusual_packing_is_refused(tmp_path: Path) -> None:
    """Others than deflate take memory that the other side chooses."""
    path = make_zip(tmp_path / "lzma", {"a.pdf": PDF}, method=zipfile.ZIP_LZMA)
    with pytest.raises(PermanentError, match="unusual"):
        expand_zip(path, io.BytesIO, max_total_bytes=MIB)


def test_every_cut_off_zip_is_noticed(tmp_path: Path) -> None:
    """The end of a zip is its table of contents."""
    whole = make_zip(tmp_path / "whole", {"a.pdf": PDF}).read_bytes()
    path = tmp_path / "cut"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(TransientError):
            expand_zip(path, io.BytesIO, max_total_bytes=MIB)


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_a_damaged_zip_raises_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    """Whatever bytes are changed, the content is right or the error is one that the daemon understands."""
    path = make_zip(tmp_path_factory.mktemp("zip") / "0", {"a.pdf": PDF, "b": b"b"})
    data = bytearray(path.read_bytes())
    for place, value in damage:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        parts = expand_zip(path, io.BytesIO, max_total_bytes=MIB)
    except SignspoolError:
        return
    assert {part.sink.getvalue() for part in parts} <= {PDF, b"b"}
