"""How much is read of a request, and for how long."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive

from callback_api.admission import Place
from callback_api.responses import BusyError, TooSlowError
from shared.errors import TooLargeError

LINGER_SECONDS = 2.0
"""Longest time for which the rest of a refused body is read, and thrown away."""


class DisconnectedError(Exception):
    """The sender went away before the body was complete."""


class Body:
    """The body of one request, read once and up to a limit."""

    def __init__(self, receive: Receive, content_length: str, limit_bytes: int, limit_seconds: float) -> None:
        self._receive = receive
        self._content_length = content_length
        self._limit_bytes = limit_bytes
        self._limit_seconds = limit_seconds
        self.is_complete = False

    async def read(self, place: Place) -> bytes:
        """The whole body; whatever Content-Length says, no more than the limit and one piece is held.

        Raises:
            TooLargeError: longer than the limit, by its own word or in fact.
            TooSlowError: it did not arrive in time, from its first byte to the last.
            BusyError: there is no room for it, or it was so slow that it had to give way.
            DisconnectedError: the sender went away.
        """
        announced = self._content_length
        if announced.isascii() and announced.isdigit() and _exceeds(announced, self._limit_bytes):
            raise self._too_large()
        first = await self._next()
        if self.is_complete:
            if len(first) > self._limit_bytes:
                raise self._too_large()
            place.hold(len(first))
            return first
        try:
            async with asyncio.timeout(self._limit_seconds) as limit:
                place.is_arriving(limit)
                return await self._read_on(first, place)
        except TimeoutError:
            if place.is_sent_off:
                raise BusyError("it was slow, and had to give way to others") from None
            raise TooSlowError(f"the body must arrive within {self._limit_seconds:g} seconds") from None
        finally:
            place.has_arrived()

    async def _read_on(self, first: bytes, place: Place) -> bytes:
        body = bytearray(first)
        place.hold(len(first))
        while len(body) <= self._limit_bytes and not self.is_complete:
            piece = await self._next()
            place.hold(len(piece))
            body += piece
        if len(body) > self._limit_bytes:
            raise self._too_large()
        return bytes(body)

    async def discard(self) -> None:
        """Read over what is left, for a short time.

        Closing a connection with unread bytes resets it, and the sender would never see the answer.
        """
        with contextlib.suppress(TimeoutError, DisconnectedError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.is_complete:
                    await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        self.is_complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body is longer than {self._limit_bytes} bytes, the limit max_body")


def _exceeds(digits: str, limit: int) -> bool:
    # So many digits exceed any limit, and are not worth converting.
    return len(digits) > 18 or int(digits) > limit
