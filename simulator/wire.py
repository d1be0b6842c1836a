"""What stands before every peer: each request is recorded, and the weather acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator import storms
from simulator.connection import EXTENSION
from simulator.weather import Peer, StormKind, Weather


@dataclass
class RecordedRequest:
    """One request that a peer was sent. Header names are lower case, values are read as Latin-1.

    `status` is what was answered, None as long as, or because, nothing was. `storm` is what struck it.
    """

    peer: Peer
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    size_bytes: int
    storm: StormKind | None = None
    status: int | None = None


class Wire:
    """ASGI middleware around one peer. Bodies are held in memory."""

    def __init__(self, app: ASGIApp, peer: Peer, weather: Weather, requests: list[RecordedRequest]) -> None:
        self._app = app
        self._peer = peer
        self._weather = weather
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        record = self._record(scope, body)
        storm = self._weather.next(self._peer, f"{record.path}?{record.query}")

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        connection = scope.get("extensions", {}).get(EXTENSION)
        exchange = storms.Exchange(self._app, scope, body, receive, watched, connection)
        if storm is None:
            await exchange.act(watched)
        else:
            record.storm = storm.kind
            await storms.strike(storm, exchange)

    def _record(self, scope: Scope, body: bytes) -> RecordedRequest:
        record = RecordedRequest(
            peer=self._peer,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            size_bytes=len(body),
        )
        self._requests.append(record)
        return record


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the caller hung up before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
