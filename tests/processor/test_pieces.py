"""Files of ours on their way out, whole and in parts: never what they were not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from processor.pieces import Composed
from processor.sending import LocalFile, look_at
from shared.errors import TransientError
from shared.providers._base import FileContent

# Longer than one piece that is read at a time, and no multiple of three.
CONTENT = bytes(range(256)) * 2000 + b"!"
PART = 200_001


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    path = tmp_path / "contract.pdf"
    path.write_bytes(CONTENT)
    return look_at(path)


def sent(file: LocalFile, *pieces: bytes | FileContent) -> bytes:
    async def read() -> bytes:
        composed = Composed(pieces, [file])
        body = b"".join([piece async for piece in composed])
        assert composed.size_bytes == len(body)
        assert await composed.md5() == base64.b64encode(hashlib.md5(body).digest()).decode()
        return body

    return asyncio.run(read())


def parts() -> list[FileContent]:
    return [FileContent(0, start_bytes=start, size_bytes=PART) for start in range(0, len(CONTENT), PART)]


def test_parts_make_the_whole_and_each_has_its_length_and_digest(file: LocalFile) -> None:
    assert len(parts()) == 3
    assert b"".join(sent(file, b"", part) for part in parts()) == CONTENT


def test_a_part_in_base64_has_its_announced_length(file: LocalFile) -> None:
    part = FileContent(0, "base64", start_bytes=7, size_bytes=PART)
    body = sent(file, b'{"x": "', part, b'"}')
    assert base64.b64decode(body[7:-2]) == CONTENT[7 : 7 + PART]


def test_a_part_behind_the_end_is_empty(file: LocalFile) -> None:
    assert sent(file, FileContent(0, start_bytes=len(CONTENT) + 5, size_bytes=9)) == b""


@pytest.mark.parametrize("place", [0, PART, len(CONTENT) - 1])
def test_the_last_part_of_a_file_that_was_changed_anywhere_is_not_sent(file: LocalFile, place: int) -> None:
    with file.path.open("r+b") as opened:
        opened.seek(place)
        opened.write(b"\xff\xfe"[: len(CONTENT) - place])
    with pytest.raises(TransientError, match="changed"):
        sent(file, parts()[-1])


@pytest.mark.parametrize("content", [None, CONTENT[:PART]])
def test_a_part_of_a_file_that_is_gone_or_shorter_is_not_sent(file: LocalFile, content: bytes | None) -> None:
    file.path.unlink()
    if content is not None:
        file.path.write_bytes(content)
    with pytest.raises(TransientError, match="changed or removed"):
        sent(file, parts()[1])
