"""uvicorn's HTTP protocol with limits on the head of a request and on what surrounds its body."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Longest request line with headers. One read of the socket is seen whole before it is judged."""

MAX_FRAMING_BYTES = 64 * 1024
"""Most that may come with a body and is none of it: chunk sizes, their extensions, trailers."""

FREE_FRAMING_RATIO = 8
"""Framing that each byte of the body carries for nothing; chunks of one byte need five."""

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large",
    b'{"type": "/problems/head-too-large", "title": "Head too large", "status": 431, '
    b'"detail": "request line and headers are too long"}',
)
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: %d",
    b'{"type": "/problems/busy", "title": "Too many connections at once", "status": 503, '
    b'"detail": "connect again after the time in Retry-After"}',
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections one worker has at once, and how long the head of a request may take."""

    max_connections: int
    head_seconds: float
    retry_after_seconds: float


class LimitedConfig(uvicorn.Config):
    """uvicorn's settings, with limits that it does not know; one for each process."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.limits = limits
        self.silent: dict[LimitedProtocol, None] = {}
        """Connections on which no request is in hand, the longest silent first."""


class _WholeAnswers:
    """A transport that sends the head of an answer together with its body: one system call instead of two.

    Whatever else is asked of it goes to the transport underneath.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or keep back a head until the next piece; an interim answer (1xx) has no body to wait for."""
        if (
            data.endswith(b"\r\n\r\n")
            and data.startswith(b"HTTP/1.1 ")
            and not data.startswith(b"HTTP/1.1 1")
        ):
            self.flush()
            self._head = data
            return
        self._transport.write(self._head + data)
        self._head = b""

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what was kept back, then close."""
        self.flush()
        self._transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """Gives up a connection whose request head is too long or does not arrive, whose chunked body is all
    framing, or that says nothing when others need its place.

    The parser itself holds a header or a trailer until it is complete, however long that is.
    """

    config: LimitedConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._in_body = False
        self._is_past_head = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection has to say what it wants."""
        answers = _WholeAnswers(transport)  # type: ignore[arg-type]  # a stream is always a Transport
        super().connection_made(answers)  # type: ignore[arg-type]  # it answers as one
        limits, silent = self.config.limits, self.config.silent
        if len(self.connections) > limits.max_connections:
            if not silent:
                status, problem = _TOO_MANY
                self._refuse(status % math.ceil(limits.retry_after_seconds), problem)
                return
            next(iter(silent)).give_way()
        silent[self] = None
        self._head_deadline = self.loop.call_later(limits.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self.config.silent.pop(self, None)
        self._forget_deadline()
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close, since another needs the place, and nothing is in hand here."""
        self.config.silent.pop(self, None)
        self.connections.discard(self)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Another request begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._in_body = True
        self._is_past_head = False
        self._head_bytes = 0
        self._framing_bytes = 0
        self.config.silent.pop(self, None)
        self._forget_deadline()
        super().on_headers_complete()
        # The request has its list. What comes after the body are trailers, and nobody here reads those.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole, trailers included."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out, and the connection silent until the next request."""
        self.transport.flush()  # type: ignore[attr-defined]  # it is what `connection_made` made of it
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.config.silent[self] = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then judge what is left unfinished."""
        # A piece that holds an end of a head is not counted as framing: one read is little enough.
        self._is_past_head, self._body_bytes = self._in_body, 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._judge_head(data)
        elif self._in_body and self._is_past_head:
            self._judge_framing(data)

    def _judge_head(self, data: bytes) -> None:
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(*_HEAD_TOO_LARGE)
        elif self._head_deadline is None:
            self._head_deadline = self.loop.call_later(self.config.limits.head_seconds, self._give_up)

    def _judge_framing(self, data: bytes) -> None:
        # Nothing is saved up, so that the trailers of a long body are not allowed to be longer than others.
        free_bytes = FREE_FRAMING_RATIO * self._body_bytes
        self._framing_bytes = max(0, self._framing_bytes + len(data) - self._body_bytes - free_bytes)
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self.transport.close()

    def _refuse(self, status: bytes, problem: bytes) -> None:
        head = (
            b"%b\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head % (status, len(problem)) + problem)
        self.transport.close()

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _forget_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
