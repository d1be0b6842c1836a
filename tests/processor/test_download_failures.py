"""A fetch that fails, is cut off or is too large leaves nothing behind, and memory stays flat."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from processor.download import StoredFile, _in_thread, _receive
from shared.errors import AccessError, NoAnswerError, NotReadyError, PermanentError, TransientError
from shared.providers._base import (
    Answer,
    DocumentView,
    Into,
    Provider,
    Request,
    SignedFile,
    SignedFiles,
)
from tests.processor.fetching import (
    MIB,
    PDF,
    Handler,
    Scripted,
    answering,
    fetch,
    make_certisign,
    make_outside,
    make_ssign,
    names_in,
    package,
    run,
    zipped,
)
from tests.waiting import PATIENCE_SECONDS

# What goes wrong


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (answering(b""), NotReadyError),
        (answering(b"", 404), NotReadyError),
        (answering(b"", 401), AccessError),
        (answering(b"teapot", 418), PermanentError),
        (answering(PDF[:-20]), TransientError),
        (answering(PDF, content_length=str(len(PDF) + 1)), TransientError),
        (answering(PDF, content_length=str(len(PDF) - 1)), TransientError),
        (answering(b"<html>%PDF-1.7 %%EOF</html>"), TransientError),
        (answering(b"MZ program"), PermanentError),
        (answering(PDF, content_length=str(2 * MIB)), PermanentError),
        (answering(PDF + bytes(MIB) + b"%%EOF"), PermanentError),
    ],
)
def test_what_is_not_a_whole_file_within_the_limit_leaves_nothing(
    tmp_path: Path, handler: Handler, error: type[Exception]
) -> None:
    """Each with the error that says whether to try again."""
    with pytest.raises(error) as caught:
        run(tmp_path, make_ssign(), handler)
    assert caught.type is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"[]", NotReadyError),
        (b'{"name": "a.pdf", "mimeType": "application/pdf", "bytes": null}', NotReadyError),
        (json.dumps(package("a.pdf", PDF)).encode()[:-9], TransientError),
        (json.dumps(package("a.pdf", PDF[:-20])).encode(), TransientError),
        (json.dumps([package("a.pdf", PDF), package("b.zip", zipped(a=PDF)[:-9])]).encode(), TransientError),
        (json.dumps(package("a.zip", zipped(a__pdf=bytes(2 * MIB)))).encode(), PermanentError),
        (json.dumps(package("a.pdf", PDF + bytes(MIB))).encode(), PermanentError),
        (b" " * (18 * MIB) + json.dumps(package("a.pdf", PDF)).encode(), PermanentError),
    ],
)
def test_what_is_not_a_whole_package_within_the_limit_leaves_nothing(
    tmp_path: Path, text: bytes, error: type[Exception]
) -> None:
    """A broken zip is a broken package, even beside a good file."""
    with pytest.raises(error) as caught:
        run(tmp_path, make_certisign(), lambda request: httpx.Response(200, content=text))
    assert caught.type is error
    assert list(tmp_path.iterdir()) == []


def test_one_bad_file_keeps_the_good_one_out_too(tmp_path: Path) -> None:
    """Files appear together or not at all."""
    text = json.dumps([package("a.pdf", PDF), package("b.pdf", PDF[:-20])]).encode()
    with pytest.raises(TransientError):
        run(tmp_path, make_certisign(), answering(text))
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_answer_is_not_measured_by_its_content_length(tmp_path: Path) -> None:
    """Some servers compress although they were asked not to."""
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(PDF) + compressor.flush()
    handler = answering(data, content_length=str(len(data)), content_encoding="gzip")
    [file] = run(tmp_path, make_ssign(), handler)
    assert file.path.read_bytes() == PDF


def test_a_broken_connection_closes_the_generator_and_leaves_nothing(tmp_path: Path) -> None:
    """The provider's own clean-up runs at once, not when memory is collected."""
    closed: list[bool] = []

    def script(document: DocumentView) -> SignedFiles:
        try:
            yield Request("GET", "https://tenant.example/rest/file", into=Into.FILE)
        finally:
            closed.append(True)
        return []

    async def breaking() -> AsyncIterator[bytes]:
        yield PDF[:100]
        raise httpx.ReadError("gone")

    held: list[Generator[Request, Answer, list[SignedFile]]] = []

    def holding(document: DocumentView) -> SignedFiles:
        held.append(script(document))
        return held[-1]

    with pytest.raises(NoAnswerError):
        run(tmp_path, Scripted(holding), lambda request: httpx.Response(200, content=breaking()))
    assert closed == [True]
    assert list(tmp_path.iterdir()) == []


def test_cancelling_in_the_middle_of_a_file_leaves_nothing(tmp_path: Path) -> None:
    """The daemon stops within its grace time and the next start finds a clean folder."""

    async def scenario() -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield PDF
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(
            fetch(tmp_path, make_ssign(), lambda request: httpx.Response(200, content=endless()))
        )
        await begun.wait()
        assert [name[:7] for name in names_in(tmp_path)] == [".fetch-"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert names_in(tmp_path) == []

    asyncio.run(scenario())


def test_cancelling_while_a_zip_is_unpacked_leaves_nothing(tmp_path: Path) -> None:
    """The thread that unpacks is waited for, since it would go on writing into a folder that is gone."""
    entries = {f"{number}__pdf": PDF * 100 for number in range(60)}
    text = json.dumps(package("all.zip", zipped(**entries), "application/zip")).encode()

    async def scenario() -> None:
        task = asyncio.create_task(
            fetch(
                tmp_path,
                make_certisign(),
                lambda request: httpx.Response(200, content=text),
                max_file_bytes=64 * MIB,
            )
        )
        while len(names_in(tmp_path, ".fetch-*/*")) < 3:
            assert not task.done()
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert names_in(tmp_path) == []

    asyncio.run(scenario())


def test_work_in_a_thread_is_over_when_its_cancellation_is_seen() -> None:
    """Whoever cleans up behind it finds nothing that still writes."""
    begun, released = threading.Event(), threading.Event()
    done: list[bool] = []

    def act() -> None:
        begun.set()
        done.append(released.wait(PATIENCE_SECONDS))

    async def scenario() -> None:
        task = asyncio.create_task(_in_thread(act))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, released.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]

    asyncio.run(scenario())


def test_fetches_into_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The daemon fetches for several documents at once."""

    async def scenario() -> list[list[StoredFile]]:
        return await asyncio.gather(
            *(
                fetch(tmp_path, make_ssign(), answering(PDF + b"\n" * number), document_id=str(number))
                for number in range(8)
            )
        )

    stored = [file for files in asyncio.run(scenario()) for file in files]
    assert [file.path.stat().st_size for file in stored] == [len(PDF) + number for number in range(8)]
    assert sorted(tmp_path.iterdir()) == sorted(file.path for file in stored)


@pytest.mark.parametrize("as_json", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, as_json: bool) -> None:
    """48 MiB go to disk through a few hundred KiB of memory."""
    block = base64.b64encode(bytes(48 * 1024))

    async def long() -> AsyncIterator[bytes]:
        if as_json:
            yield b'{"name": "a.pdf", "bytes": "' + base64.b64encode(b"%PDF-1.7\n")
        else:
            yield b"%PDF-1.7\n"
        for _ in range(1024):
            yield block if as_json else bytes(48 * 1024)
        yield base64.b64encode(b"\n%%EOF") + b'"}' if as_json else b"\n%%EOF"

    provider: Provider[Any] = make_certisign() if as_json else make_ssign()
    # What is imported and compiled at the first call is not what is measured.
    run(tmp_path, make_ssign(), answering(PDF))
    tracemalloc.start()
    try:
        [file] = run(
            tmp_path,
            provider,
            lambda request: httpx.Response(200, content=long()),
            max_file_bytes=64 * MIB,
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.size_bytes == 48 * MIB + 15
    assert peak_bytes < 4 * MIB


def test_what_is_received_is_written_by_a_thread_in_large_pieces(tmp_path: Path) -> None:
    """A disk that takes its time, or a body that takes decoding, holds up nobody else."""
    taken: list[tuple[int, int]] = []

    def take(data: bytes) -> None:
        taken.append((threading.get_ident(), len(data)))

    async def scenario() -> None:
        outside = make_outside(make_ssign(), lambda request: httpx.Response(200, content=many()))
        async with outside.stream("GET", "https://tenant.example/rest/file") as streamed:
            await _receive(streamed, take)
        await outside.aclose()

    async def many() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield bytes(10_000)

    asyncio.run(scenario())
    assert sum(length for _, length in taken) == 3_000_000
    assert threading.get_ident() not in {thread for thread, _ in taken}
    assert len(taken) < 10
