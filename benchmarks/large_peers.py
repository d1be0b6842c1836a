"""Providers and destinations for large files: they make what they send, and keep nothing of what they get.

The simulator holds every file in memory, several times over; with 200 MB that would be measured too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

_HEAD = b"%PDF-1.7\n"
_TAIL = b"\n%%EOF\n"
# A multiple of three, so that base64 of the pieces is the base64 of the whole.
_PIECE_BYTES = 3 * 2**16
_ANSWERS = {"tokenUsuario": "token", "cdDocumento": "1", "id": "1"}


class LargeFilePeers:
    """Serves from a thread: `with LargeFilePeers() as peers: peers.url`.

    The length of a file is asked for in its reference: `1000`, `base64-1000` or `numbers-1000`.
    """

    def __init__(self) -> None:
        self.url = ""
        self._noise = os.urandom(_PIECE_BYTES)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="large-file-peers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            target = head.split(" ", 2)[1]
            wanted = parse_qs(urlsplit(target).query)
            if "EnvelopeFileId" in wanted:
                size_bytes = int(wanted["EnvelopeFileId"][0])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % size_bytes)
                await self._send(writer, self._pieces(size_bytes))
            elif "key" in wanted:
                form, _, size = wanted["key"][0].rpartition("-")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                await self._send(writer, self._package(form, int(size)))
            else:
                await _swallow(reader, head)
                body = json.dumps(_ANSWERS).encode("ascii")
                writer.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
                await writer.drain()
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    def _pieces(self, size_bytes: int) -> Iterator[bytes]:
        """A PDF of exactly this length, in pieces whose lengths are multiples of three but for the last."""
        start = _HEAD.ljust(12)
        yield start
        left = size_bytes - len(start) - len(_TAIL)
        while left >= _PIECE_BYTES:
            yield self._noise
            left -= _PIECE_BYTES
        yield self._noise[:left] + _TAIL

    def _package(self, form: str, size_bytes: int) -> Iterator[bytes]:
        """The same in JSON, as base64 text or as an array of numbers."""
        yield b'[{"name": "contrato.pdf", "mimeType": "application/pdf", "bytes": '
        if form == "base64":
            yield b'"'
            for piece in self._pieces(size_bytes):
                yield base64.b64encode(piece)
            yield b'"'
        else:
            separator = b"["
            for piece in self._pieces(size_bytes):
                yield separator + ",".join(map(str, piece)).encode("ascii")
                separator = b","
            yield b"]"
        yield b"}]"


async def _swallow(reader: asyncio.StreamReader, head: str) -> None:
    """Read a body of known length to its end.

    Raises:
        asyncio.IncompleteReadError: it is shorter.
    """
    lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    left = int(lengths[0].partition(":")[2]) if lengths else 0
    while left:
        piece = await reader.read(min(left, 2**20))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
