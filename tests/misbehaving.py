"""An HTTP server on a real socket that behaves badly in every way that peers do."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any

import trustme

from tests.installation import free_port

MIB = 1024 * 1024


@dataclass
class Call:
    """One request, its body read to the end, and the connection to answer on."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer in order."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("content-length", str(len(body)))
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in named.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def reset(self) -> None:
        """End the connection with a TCP reset, after what was already written."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Call], Awaitable[None]]


@asynccontextmanager
async def serving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that reads each request whole and then does what `behave` does; yields its origin."""
    calls: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        calls.add(task)
        try:
            await behave(await _read(reader, writer))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            # The client may leave whenever it has seen enough.
            return
        except asyncio.CancelledError:
            # A behaviour without an end is ended with the server; the stream's own callback would complain.
            return
        finally:
            calls.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for call in list(calls):
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = request.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(method, target, headers, body, reader, writer)


# Ways to behave badly


def answering(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answers so; `{seen}` in the body becomes the headers of the request, secrets included."""

    async def behave(call: Call) -> None:
        seen = " ".join(call.headers.values()).encode()
        call.say(status, body.replace(b"{seen}", seen), **headers)

    return behave


def answering_raw(answer: bytes) -> Behaviour:
    """Sends exactly these bytes and closes."""

    async def behave(call: Call) -> None:
        call.writer.write(answer)

    return behave


def pausing_until(seconds: float) -> Behaviour:
    """429, with the end of the pause as a date, by a clock that is an hour slow."""

    async def behave(call: Call) -> None:
        date = 1_700_000_000.0
        call.say(429, date=formatdate(date, usegmt=True), retry_after=formatdate(date + seconds, usegmt=True))

    return behave


async def silent(call: Call) -> None:
    """Says nothing until the caller gives up."""
    await call.reader.read()


async def resetting(call: Call) -> None:
    """Resets the connection in place of an answer."""
    call.reset()


async def resetting_in_the_middle(call: Call) -> None:
    """Resets the connection when half of the body was sent."""
    call.say(200, b"%PDF-1.7\n", content_length="50000")
    await call.writer.drain()
    # Behind the bytes that are on their way, not over them.
    await asyncio.sleep(0.05)
    call.reset()


async def dripping(call: Call) -> None:
    """A byte now and then, often enough for any limit between two of them."""
    call.say(200, content_length="50000")
    while True:
        call.writer.write(b" ")
        await call.writer.drain()
        await asyncio.sleep(0.02)


async def dripping_headers(call: Call) -> None:
    """The same, before the answer has even begun."""
    call.writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        call.writer.write(b"x")
        await call.writer.drain()
        await asyncio.sleep(0.02)


async def endless_error(call: Call) -> None:
    """404, and a page without an end."""
    call.writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
    while True:
        call.writer.write(b"no " * 20_000)
        await call.writer.drain()


async def endless_headers(call: Call) -> None:
    """One header after the other."""
    call.writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        call.writer.write(b"X-More: and more\r\n" * 1000)
        await call.writer.drain()


def endless(beginning: bytes, more: bytes) -> Behaviour:
    """A body without an end."""

    async def behave(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + beginning)
        while True:
            call.writer.write(more * (65536 // len(more)))
            await call.writer.drain()

    return behave


def bomb(beginning: bytes, end: bytes) -> bytes:
    """24 MiB of white space between two texts, in a few dozen kilobytes of gzip."""
    return gzip.compress(beginning + b" " * (24 * MIB) + end, compresslevel=1)


def json_body(value: object) -> bytes:
    """A value as JSON."""
    return json.dumps(value).encode()


# Peers to whom no connection comes about


@asynccontextmanager
async def unreachable(name: str, authority: trustme.CA, behave: Behaviour) -> AsyncIterator[str]:
    """An origin to which no connection comes about."""
    past = datetime.now(UTC) - timedelta(days=1)
    if name == "refused":
        yield f"http://127.0.0.1:{free_port()}"
    elif name == "no such host":
        yield "http://nowhere.invalid:80"
    elif name == "a full backlog":
        with ExitStack() as sockets:
            full, *waiting = [sockets.enter_context(socket.socket()) for _ in range(5)]
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            yield f"http://127.0.0.1:{full.getsockname()[1]}"
    elif name == "plain behind https":
        server = await asyncio.start_server(_complain, "127.0.0.1", 0)
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
    elif name == "silent in the handshake":
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            yield f"https://127.0.0.1:{nobody.getsockname()[1]}"
    else:
        host, not_after = {
            "untrusted": ("127.0.0.1", None),
            "expired": ("127.0.0.1", past),
            "wrong host": ("other.example", None),
        }[name]
        async with serving(behave, _tls_of(authority, host, not_after)) as origin:
            yield origin


def _complain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say in plain HTTP that this was no HTTP."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


def _tls_of(authority: trustme.CA, host: str, not_after: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, not_after=not_after).configure_cert(context)
    return context
