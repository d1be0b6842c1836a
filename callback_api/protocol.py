"""uvicorn's HTTP protocol with limits on the head of a request and on what surrounds its body."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from callback_api.exchange import Exchange

MAX_HEAD_BYTES = 64 * 1024
"""Longest request line with headers. One read of the socket is seen whole before it is judged."""

MAX_FRAMING_BYTES = 64 * 1024
"""Most that may come with a body and is none of it: chunk sizes, their extensions, trailers."""

FREE_FRAMING_RATIO = 8
"""Framing that each byte of the body carries for nothing; chunks of one byte need five."""

SWEEP_SECONDS = 1.0
"""How often silent connections are looked through for those that have been so for too long."""

MAX_KNOWN_TARGETS = 256
"""Request targets whose parts are remembered, of so many bytes at most; a provider calls with one or two."""

LAST_REQUEST_SECONDS = 0.5
"""Time that a silent connection has at the end for one more request, which may be on its way already."""

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
        self.silent: dict[LimitedProtocol, float] = {}
        """Connections on which no request is in hand, the longest silent first, and since when."""
        self._is_sweeping = False
        self.is_ending = False
        """Whether the server is being stopped: an answer is then the last of its connection."""

    def is_silent(self, connection: LimitedProtocol) -> None:
        """A connection has nothing in hand from now on, and is closed when that lasts too long."""
        # One timer for all of them: one for each, set and taken back with every request, costs as much as
        # reading its head.
        loop = connection.loop
        self.silent[connection] = loop.time()
        if not self._is_sweeping:
            self._is_sweeping = True
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self.timeout_keep_alive
        for connection in [found for found, since in self.silent.items() if since <= latest]:
            connection.give_way_unless_speaking()
        self._is_sweeping = bool(self.silent)
        if self._is_sweeping:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)


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
        super().connection_made(transport)  # type: ignore[arg-type]  # a stream is always a Transport
        limits, silent = self.config.limits, self.config.silent
        if len(self.connections) > limits.max_connections:
            if not silent:
                status, problem = _TOO_MANY
                self._refuse(status % math.ceil(limits.retry_after_seconds), problem)
                return
            next(iter(silent)).give_way()
        self.config.is_silent(self)
        self._head_deadline = self.loop.call_later(limits.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self.config.silent.pop(self, None)
        self._forget_deadline()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called when the server is being stopped: end after the answer in hand, or after one more.

        To close a silent connection at once would reset the one whose request is just arriving.
        """
        self.config.is_ending = True
        if self in self.config.silent:
            self.loop.call_later(LAST_REQUEST_SECONDS, self._close_if_silent)
        else:
            super().shutdown()

    def _close_if_silent(self) -> None:
        if self in self.config.silent:
            self.give_way()

    def give_way(self) -> None:
        """Close, since another needs the place, and nothing is in hand here."""
        self.config.silent.pop(self, None)
        self.connections.discard(self)
        self.transport.close()

    def give_way_unless_speaking(self) -> None:
        """Close, unless a head is on its way: that has a time limit of its own."""
        if self._head_deadline is None:
            self.give_way()

    def on_message_begin(self) -> None:
        """Another request begins."""
        self._in_head = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._in_body = True
        self._is_past_head = False
        self._head_bytes = 0
        self._framing_bytes = 0
        self.config.silent.pop(self, None)
        self._forget_deadline()
        self._begin_exchange()
        if self.config.is_ending:
            self.cycle.keep_alive = False
        # The request has its list. What comes after the body are trailers, and nobody here reads those.
        self.headers = []

    def _begin_exchange(self) -> None:
        """Start the application on this request: as uvicorn does, without what this door does not use."""
        parser, waiting_for = self.parser, self.cycle
        version = parser.get_http_version()
        path, raw_path, query = _parts_of(self.url)
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]  # None before a connection is made
            "method": parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if waiting_for is None or waiting_for.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            # It was sent before the answer to the one before it, and has to wait for that.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

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
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.config.is_silent(self)

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


def _split(target: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it was sent, and query of a request target.

    Raises:
        httptools.HttpParserInvalidURLError: it is none.
    """
    parts = httptools.parse_url(target)
    return unquote(parts.path.decode("ascii")), parts.path, parts.query or b""


_known_parts = lru_cache(MAX_KNOWN_TARGETS)(_split)


def _parts_of(target: bytes) -> tuple[str, bytes, bytes]:
    return _known_parts(target) if len(target) <= MAX_KNOWN_TARGETS else _split(target)
