"""What whoever talks to a provider needs of whoever sends: `processor.outside.Outside`, as a rule."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypedDict, Unpack

from shared.providers._base import Answer


class SendOptions(TypedDict, total=False):
    """What may be said of a request besides.

    `silence_seconds` is how long the other side may keep silent, where that is longer than the settings say.
    """

    content: bytes | AsyncIterable[bytes] | None
    silence_seconds: float | None


class StreamOptions(SendOptions, total=False):
    """The same, and whether an answer that points elsewhere is an answer like any other."""

    redirects: bool


class Streamed(Protocol):
    """An answer whose body is still on its way."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces."""

    async def beginning(self) -> bytes:
        """The beginning of the body of an answer that is no success, for a message."""


class Sender(Protocol):
    """Sends requests whose answers fit into memory."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], **options: Unpack[SendOptions]
    ) -> Answer:
        """Send one request and read its answer."""


class StreamingSender(Sender, Protocol):
    """Sends requests of any kind."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], **options: Unpack[StreamOptions]
    ) -> AbstractAsyncContextManager[Streamed]:
        """Send one request; its answer is read within the block."""
