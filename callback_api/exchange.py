"""One request and its answer: uvicorn's, with an answer that is whole sent in one piece."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent

Headers = tuple[tuple[bytes, bytes], ...]

_MAX_KNOWN_HEADS = 256

_SHAPING = (b"connection", b"transfer-encoding")
"""Headers that say how the answer, or the connection, goes on: uvicorn acts on them."""


class Exchange(RequestResponseCycle):
    """Keeps the head of an answer back until its body comes, and sends both by one system call.

    The ordinary answer, whole and of known length on a connection that stays open, is put together here from
    a head that was made before; every other goes uvicorn's own way.
    """

    _start: HTTPResponseStartEvent | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Take the next part of the answer."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None and message["type"] == "http.response.body" and not message.get("more_body"):
            body = message.get("body", b"")
            head = _plain_head(start["status"], len(body), tuple(start["headers"]))
            if head is not None and self._is_ordinary():
                self._send_whole(head, body)
                return
        if start is not None:
            await super().send(start)
        await super().send(message)

    def _is_ordinary(self) -> bool:
        return (
            self.keep_alive
            and not self.response_started
            and not self.disconnected
            and not self.flow.write_paused
            and self.scope["method"] != "HEAD"
        )

    def _send_whole(self, head: bytes, body: bytes) -> None:
        date = b"".join([b"%b: %b\r\n" % header for header in self.default_headers])
        self.transport.write(b"%b%b\r\n%b" % (head, date, body))
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.message_event.set()
        self.on_response()


@lru_cache(_MAX_KNOWN_HEADS)
def _plain_head(status: int, body_bytes: int, headers: Headers) -> bytes | None:
    """Status line and headers for a body of so many bytes; None when uvicorn has to look at them itself."""
    lines = [STATUS_LINE[status]]
    has_length = False
    for name, value in headers:
        if name in _SHAPING or HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            return None
        has_length = has_length or (name == b"content-length" and value == b"%d" % body_bytes)
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines) if has_length else None
