"""The HTTP sender against peers that misbehave on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from processor.outside import Outside
from shared.errors import NoAnswerError, NotSentError, PermanentError, TransientError
from tests.installation import free_port

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def peer(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """A server that reads the head of each request and then does what the handler does; yields its origin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            # The client is allowed to leave whenever it has seen enough.
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield f"http{'s' if options else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def says(answer: bytes) -> Handler:
    async def handle(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return handle


def make(origin: str, **changes: Any) -> Outside:
    options: dict[str, Any] = {
        "origins": frozenset({origin}),
        "connect_timeout_seconds": 60,
        "read_timeout_seconds": 60,
        "total_timeout_seconds": 120,
    }
    return Outside("the peer", **{**options, **changes})


async def pieces_of(outside: Outside, url: str) -> list[bytes]:
    async with outside.stream("GET", url) as streamed:
        return [piece async for piece in streamed.chunks()]


async def test_the_answer_comes_with_its_status_lower_case_headers_and_body() -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head + await reader.readexactly(4))
        writer.write(b"HTTP/1.1 418 Teapot\r\nX-Thing: A\r\nContent-Length: 5\r\n\r\nshort")

    async with peer(handle) as origin:
        answer = await make(origin).send(
            "POST",
            f"{origin}/a%2Fb?c=d",
            headers={"cdFluxo": "1", "dsAnexo": "ação".encode()},
            content=b"body",
        )
    assert (answer.status, answer.headers["x-thing"], answer.body) == (418, "A", b"short")
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"POST /a%2Fb?c=d HTTP/1.1"
    assert {
        b"cdFluxo: 1",
        "dsAnexo: ação".encode(),
        b"Accept-Encoding: identity",
        b"Content-Length: 4",
        f"User-Agent: signspool/{version('signspool')}".encode(),
    } <= set(lines)
    assert lines[-1] == b"body"


async def test_iterated_content_is_sent_with_the_length_that_was_given() -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head.lower() + await reader.readexactly(6))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with peer(handle) as origin:
        answer = await make(origin).send("PUT", origin, headers={"Content-Length": "6"}, content=content())
    assert answer.status == 204
    assert b"transfer-encoding" not in heads[0]
    assert heads[0].endswith(b"\r\n\r\nabcdef")


async def test_every_request_has_its_own_connection() -> None:
    """A kept connection that the server closes at the wrong moment would make an outcome unknown."""
    ports: set[int] = set()

    async def handle(_head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with peer(handle) as origin:
        outside = make(origin)
        for _ in range(3):
            await outside.send("GET", origin)
        await outside.aclose()
    assert len(ports) == 3


async def test_another_origin_is_refused_before_anything_is_sent() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"ok")

    outside = make("https://api.example:443", transport=httpx.MockTransport(answer))
    for url in (
        "http://api.example/x",
        "https://api.example:8443/x",
        "https://api.example.evil/x",
        "https://api.example@evil/x",
        "https://evil/?https://api.example/",
        "file:///etc/passwd",
        "/x",
        "https://api.example:port/",
    ):
        with pytest.raises(PermanentError):
            await outside.send("GET", url)
    assert asked == []
    assert (await outside.send("GET", "https://API.example/x")).body == b"ok"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, TransientError),
        (302, NoAnswerError),
        (303, NoAnswerError),
        (307, TransientError),
        (308, TransientError),
    ],
)
async def test_a_redirect_is_not_followed_and_only_its_origin_is_named(
    status: int, error: type[Exception]
) -> None:
    """Some say that nothing was done here; after the others it may have been."""
    answer = (
        f"HTTP/1.1 {status} Moved\r\nLocation: https://Login.example/?secret=1\r\nContent-Length: 0\r\n\r\n"
    )
    async with peer(says(answer.encode())) as origin:
        with pytest.raises(error, match=r"https://login\.example:443") as caught:
            await make(origin).send("GET", origin)
    assert caught.type is error
    assert "secret" not in str(caught.value)


async def test_a_redirect_is_handed_over_to_who_asks_for_it_and_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with (
        peer(says(answer)) as origin,
        make(origin).stream("GET", origin, redirects=True) as streamed,
    ):
        assert (streamed.status, streamed.headers["location"]) == (302, "/elsewhere")


async def after_a_while(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.4)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_silence_may_be_longer_where_a_request_says_so_and_never_shorter() -> None:
    async with peer(after_a_while) as origin:
        with pytest.raises(NoAnswerError, match=r"silent for 0\.1 s"):
            await make(origin, read_timeout_seconds=0.1).send("GET", origin)
        patient = make(origin, read_timeout_seconds=0.1)
        assert (await patient.send("GET", origin, silence_seconds=60)).body == b"ok"
        assert (await make(origin).send("GET", origin, silence_seconds=0.1)).body == b"ok"


async def test_a_refused_connection_sent_nothing() -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NotSentError, match="refused"):
        await make(origin).send("POST", f"{origin}/?token=hidden", content=b"x")


async def test_an_unknown_host_sent_nothing() -> None:
    with pytest.raises(NotSentError, match="resolved"):
        await make("http://nowhere.invalid:80").send("GET", "http://nowhere.invalid/")


async def silent(_head: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def resetting(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
    )
    writer.transport.abort()


async def dripping(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (silent, "silent for 0.3 s"),
        (resetting, "broke the connection off"),
        (says(b""), "broke the connection off"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), "broke the connection off"),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort"),
            "broke the connection off",
        ),
        (says(b"SMTP ready\r\n\r\n"), "broke the connection off"),
        (dripping, "within 0.8 s"),
        (endless, "more than 1048576 bytes"),
    ],
)
async def test_after_the_first_byte_went_out_the_outcome_is_unknown(handler: Handler, message: str) -> None:
    async with peer(handler) as origin:
        # Short is only the limit that it is about, so that a busy machine ends nothing by another one.
        short: dict[object, dict[str, float]] = {
            silent: {"read_timeout_seconds": 0.3},
            dripping: {"total_timeout_seconds": 0.8},
        }
        outside = make(origin, **short.get(handler, {}))
        with pytest.raises(NoAnswerError, match=message) as caught:
            await outside.send("POST", f"{origin}/?token=hidden", headers={"X": "hidden"}, content=b"hidden")
    assert "hidden" not in str(caught.value)
    assert isinstance(caught.value, TransientError)


async def test_an_answer_is_read_up_to_the_limit_and_not_beyond() -> None:
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")) as origin:
        outside = make(origin)
        assert (await outside.send("GET", origin, limit_bytes=10)).body == b"0123456789"
        with pytest.raises(NoAnswerError, match="more than 9 bytes"):
            await outside.send("GET", origin, limit_bytes=9)


@pytest.mark.parametrize("handler", [dripping, endless, says(b"")], ids=["dripping", "endless", "none"])
async def test_the_status_of_a_refusal_counts_whatever_becomes_of_its_page(handler: Handler) -> None:
    """A 429 says that nothing was done, even when the page behind it never ends."""

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Slow down\r\nContent-Length: 9000000\r\n\r\nwait")
        await handler(head, reader, writer)

    # That of the sender ends what drips; the others end by themselves.
    patience = 2.0 if handler is dripping else 60.0
    async with peer(handle) as origin:
        answer = await make(origin, read_timeout_seconds=patience).send("GET", origin)
    assert answer.status == 429
    assert answer.body.startswith(b"wait")
    assert len(answer.body) <= 65536


async def test_an_answer_without_a_date_has_that_of_its_arrival() -> None:
    """So that a time which it names can be counted from there."""
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as origin:
        answer = await make(origin).send("GET", origin)
    assert abs(parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_stream_gives_the_body_in_pieces_before_it_is_whole() -> None:
    go_on = asyncio.Event()

    async def handle(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await go_on.wait()
        writer.write(b"def")

    async with peer(handle) as origin, make(origin).stream("GET", origin) as streamed:
        assert (streamed.status, streamed.headers["content-length"]) == (200, "6")
        pieces = []
        async for piece in streamed.chunks():
            pieces.append(piece)
            go_on.set()
    assert pieces == [b"abc", b"def"]


async def test_a_stream_that_is_cut_off_says_so() -> None:
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as origin:
        with pytest.raises(NoAnswerError, match="broke the connection off"):
            await pieces_of(make(origin), origin)


async def test_the_total_limit_covers_a_stream_that_drips() -> None:
    async with peer(dripping) as origin:
        with pytest.raises(NoAnswerError, match=r"within 0\.2 s"):
            await pieces_of(make(origin, total_timeout_seconds=0.2), origin)


async def test_an_error_of_the_reader_passes_through_a_stream_unchanged() -> None:
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as origin:
        for error in (OSError("disk full"), TimeoutError("of the reader's own")):
            with pytest.raises(type(error), match=str(error)):
                async with make(origin).stream("GET", origin):
                    raise error


def compressed(data: bytes, coding: bytes, cut: int | None = None) -> Handler:
    body = data[:cut]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    return says(head + body)


@pytest.mark.parametrize(
    ("coding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)]
)
async def test_an_answer_that_was_compressed_unasked_is_read_all_the_same(
    coding: bytes, compress: Callable[[bytes], bytes]
) -> None:
    data = bytes(range(256)) * 2000
    async with peer(compressed(compress(data), coding)) as origin:
        assert (await make(origin).send("GET", origin)).body == data


async def test_a_small_answer_that_swells_hits_the_limit_in_small_steps() -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    async with peer(compressed(bomb, b"gzip")) as origin:
        with pytest.raises(NoAnswerError, match="more than 1048576 bytes"):
            await make(origin).send("GET", origin)
        assert max(map(len, await pieces_of(make(origin), origin))) <= 65536


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (compressed(b"this is not gzip", b"gzip"), "damaged"),
        (compressed(gzip.compress(bytes(range(256)) * 99), b"gzip", cut=-9), "cut off"),
    ],
)
async def test_a_broken_compression_is_no_answer(handler: Handler, message: str) -> None:
    async with peer(handler) as origin:
        with pytest.raises(NoAnswerError, match=message):
            await make(origin).send("GET", origin)


async def test_an_unknown_compression_leaves_open_what_was_answered() -> None:
    async with peer(compressed(b"?", b"br")) as origin:
        with pytest.raises(NoAnswerError, match="'br'"):
            await make(origin).send("GET", origin)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\x00b"])
async def test_a_header_that_would_break_the_request_is_never_sent_nor_quoted(value: str) -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heads.append(head)

    async with peer(handle) as origin:
        with pytest.raises(PermanentError) as caught:
            await make(origin).send("GET", origin, headers={"Authorization": value})
    assert heads == []
    assert "Evil" not in str(caught.value)


async def test_a_header_text_outside_ascii_must_be_given_as_bytes() -> None:
    with pytest.raises(PermanentError, match="'X'") as caught:
        await make("http://h:80").send("GET", "http://h/", headers={"X": "segrédo"})
    assert "segr" not in str(caught.value)


async def test_an_error_of_the_content_passes_through_unchanged() -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"a"
        raise TransientError("the file is gone")

    async with peer(silent) as origin:
        with pytest.raises(TransientError, match="the file is gone"):
            await make(origin).send("POST", origin, headers={"Content-Length": "9"}, content=content())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_the_authority_in_ca_file_is_trusted(
    tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), ssl=tls) as origin:
        outside = make(origin, ca_file=trusted)
        assert outside.why_unusable() is None
        assert (await outside.send("GET", origin)).body == b"ok"


async def test_a_ca_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    outside = make("https://h:443", ca_file=tmp_path / "missing.pem")
    assert "missing.pem" in (outside.why_unusable() or "")
    with pytest.raises(NotSentError, match="correct ca_file"):
        await outside.send("GET", "https://h/")


async def test_the_environment_has_no_say_in_where_requests_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as origin:
        assert (await make(origin).send("GET", origin)).status == 200
