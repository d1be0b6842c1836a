"""How answers leave a connection, and what becomes of a silent one: our protocol around uvicorn's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from callback_api.protocol import ConnectionLimits, LimitedConfig, LimitedProtocol

DEADLINE_SECONDS = 90.0
LENGTH = (b"content-length", b"2")


class Wire(asyncio.Transport):
    """A transport that keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


Check = Callable[[LimitedProtocol, Wire], Awaitable[None]]


def connect(app: ASGIApp, check: Check, *, keep_alive_seconds: int = 75) -> Wire:
    """Let a check talk over a connection to an application; returns what was written."""
    wire = Wire()

    async def run() -> None:
        config = LimitedConfig(
            app,
            limits=ConnectionLimits(max_connections=10, head_seconds=30, retry_after_seconds=1),
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=keep_alive_seconds,
        )
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"today")]
        protocol = LimitedProtocol(config=config, server_state=state, app_state={})
        protocol.connection_made(wire)
        await check(protocol, wire)
        closed = wire.closed
        protocol.connection_lost(None)
        wire.closed = closed

    asyncio.run(run())
    return wire


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  (nobody tells of it)
            await asyncio.sleep(0.01)


def answering(*messages: dict[str, Any]) -> ASGIApp:
    """An application that reads the request and sends these parts of an answer."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def asking(request: bytes, answers: int = 1) -> Check:
    async def check(protocol: LimitedProtocol, wire: Wire) -> None:
        protocol.data_received(request)
        await until(lambda: b"".join(wire.pieces).count(b"HTTP/1.1 ") >= answers and not protocol.tasks)

    return check


GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def test_an_ordinary_answer_leaves_in_one_piece() -> None:
    wire = connect(answering(start(LENGTH), body(b"ok")), asking(GET))
    assert wire.pieces == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: today\r\n\r\nok"]
    assert not wire.closed


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    wire = connect(answering(start(LENGTH), body(b"ok")), asking(GET * 3, answers=3))
    assert len(wire.pieces) == 3
    assert not wire.closed


@pytest.mark.parametrize(
    ("request_", "messages", "expected", "closed"),
    [
        pytest.param(
            GET.replace(b"GET", b"HEAD"),
            [start(LENGTH), body(b"")],
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\n",
            False,
            id="HEAD has no body",
        ),
        pytest.param(
            GET.replace(b"host: x", b"connection: close"),
            [start(LENGTH), body(b"ok")],
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            True,
            id="the sender wants the end of the connection",
        ),
        pytest.param(
            GET,
            [start(LENGTH, (b"connection", b"close")), body(b"ok")],
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            True,
            id="the application wants it",
        ),
        pytest.param(
            GET,
            [start(LENGTH), body(b"o", more=True), body(b"k")],
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nok",
            False,
            id="in two parts",
        ),
        pytest.param(
            GET,
            [start(), body(b"ok")],
            b"HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            False,
            id="without a length",
        ),
    ],
)
def test_every_other_answer_goes_the_way_of_uvicorn(
    request_: bytes, messages: list[dict[str, Any]], expected: bytes, closed: bool
) -> None:
    wire = connect(answering(*messages), asking(request_))
    assert b"".join(wire.pieces) == expected
    assert wire.closed is closed


@pytest.mark.parametrize(
    "messages",
    [
        [start(LENGTH)],
        [start(LENGTH), body(b"too long")],
        [start(LENGTH, (b"x-split", b"a\r\nset-cookie: b")), body(b"ok")],
    ],
    ids=["no body", "another length than announced", "a line break in a header"],
)
def test_a_broken_answer_is_no_answer(messages: list[dict[str, Any]]) -> None:
    """Nothing of it is sent as if it were good."""
    wire = connect(answering(*messages), asking(GET, answers=0))
    sent = b"".join(wire.pieces)
    assert b"set-cookie" not in sent
    assert not sent.endswith((b"ok", b"too long"))
    assert wire.closed


def test_a_silent_connection_is_closed_and_one_that_speaks_is_not() -> None:
    """A head on its way has its own limit, however long it was silent before."""

    async def be_silent(protocol: LimitedProtocol, wire: Wire) -> None:
        protocol.data_received(GET + GET[:5])
        await until(lambda: len(wire.pieces) == 1)
        speaking = wire.closed
        swept_at = protocol.loop.time() + 1.5
        await until(lambda: protocol.loop.time() > swept_at)
        assert [speaking, wire.closed] == [False, False]
        protocol.data_received(GET[5:])
        await until(lambda: wire.closed)

    wire = connect(answering(start(LENGTH), body(b"ok")), be_silent, keep_alive_seconds=0)
    assert len(wire.pieces) == 2
