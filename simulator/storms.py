"""How each kind of storm is acted out on one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.connection import Connection
from simulator.weather import Storm, StormKind

_TOKEN_HEADERS = frozenset({b"authorization", b"token", b"tokenusuario", b"x-api-key", b"appkey"})
_ENDLESS_CHUNK = b" " * 65_536
_PAGE = "<!doctype html><title>Manutenção</title><h1>Sistema em manutenção</h1><p>Volte mais tarde.</p>"


@dataclass
class _Kept:
    """An answer held back; usable as an ASGI `send`."""

    start: Message = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    def started(self, length: int | None) -> Message:
        """The start of the answer, its Content-Length replaced; None leaves it out."""
        headers = MutableHeaders(raw=list(self.start["headers"]))
        del headers["content-length"]
        if length is not None:
            headers["content-length"] = str(length)
        return {**self.start, "headers": headers.raw}


@dataclass
class Exchange:
    """One request with all that is needed to answer it, well or badly; `body` was already received."""

    app: ASGIApp
    scope: Scope
    body: bytes
    receive: Receive
    send: Send
    connection: Connection | None

    @property
    def line(self) -> Connection:
        """The caller's connection.

        Raises:
            RuntimeError: the server in use does not say.
        """
        if self.connection is None:
            raise RuntimeError("this storm needs a real connection: serve with SimulatorServer or run()")
        return self.connection

    async def act(self, send: Send) -> None:
        """Let the peer do what was asked for and answer through `send`."""
        unread = [self.body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await self.receive()

        await self.app(self.scope, replay, send)

    async def acted(self) -> _Kept:
        """Let the peer do what was asked for, and keep its answer."""
        kept = _Kept()
        await self.act(kept)
        return kept

    async def answer(self, response: Response) -> None:
        """Answer in the peer's place."""
        await response(self.scope, self.receive, self.send)

    async def gone(self) -> None:
        """Wait until the connection has ended, so that the server knows that no answer is due."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def strike(storm: Storm, exchange: Exchange) -> None:
    """Act one storm out on one request."""
    if storm.after_acting:
        await exchange.acted()
    await _ACTS[storm.kind](_Blow(storm, exchange))


@dataclass
class _Blow:
    """One storm on one request; a method for each kind."""

    storm: Storm
    exchange: Exchange

    async def delay(self) -> None:
        if await self.exchange.line.sleep(self.storm.seconds):
            await self.exchange.act(self.exchange.send)

    async def status(self) -> None:
        status = self.storm.status or 503
        headers = {}
        if self.storm.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.storm.retry_after_seconds)
        if status in (204, 304):
            await self.exchange.answer(Response(status_code=status, headers=headers))
        else:
            await self.exchange.answer(PlainTextResponse(f"simulated {status}", status, headers))

    async def silence(self) -> None:
        await self.exchange.line.sleep(self.storm.seconds)
        self.exchange.line.close()
        await self.exchange.gone()

    async def reset(self) -> None:
        self.exchange.line.reset()
        await self.exchange.gone()

    async def truncated(self) -> None:
        kept = await self.exchange.acted()
        # An empty body cannot be cut short, so one byte is announced and none sent.
        await self.exchange.send(kept.started(max(len(kept.body), 1)))
        half = bytes(kept.body[: len(kept.body) // 2])
        await self.exchange.send({"type": "http.response.body", "body": half, "more_body": True})
        self.exchange.line.close()
        await self.exchange.gone()

    async def drip(self) -> None:
        kept = await self.exchange.acted()
        await self.exchange.send(kept.started(len(kept.body)))
        for at in range(0, len(kept.body), self.storm.chunk_bytes):
            if not await self.exchange.line.sleep(self.storm.seconds) or self.exchange.line.is_closing:
                # The rest is owed to nobody: the connection is gone, or about to be.
                await self.exchange.gone()
                return
            drop = bytes(kept.body[at : at + self.storm.chunk_bytes])
            await self.exchange.send({"type": "http.response.body", "body": drop, "more_body": True})
        await self.exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def endless(self) -> None:
        kept = await self.exchange.acted()
        await self.exchange.send(kept.started(None))
        await self.exchange.send({"type": "http.response.body", "body": bytes(kept.body), "more_body": True})
        while not self.exchange.line.is_closing:
            await self.exchange.send(
                {"type": "http.response.body", "body": _ENDLESS_CHUNK, "more_body": True}
            )
            # A caller that reads fast never makes `send` wait, and the others want their turn.
            await self.exchange.line.sleep(0)
        await self.exchange.gone()

    async def redirect(self) -> None:
        await self.exchange.answer(
            Response(status_code=self.storm.status or 302, headers={"Location": self.storm.location})
        )

    async def html(self) -> None:
        await self.exchange.answer(HTMLResponse(_PAGE))

    async def error_in_200(self) -> None:
        await self.exchange.answer(JSONResponse({"erro": self.storm.message}))

    async def wrong_token(self) -> None:
        # The peer itself refuses, in its own manner.
        headers = [
            (name, b"wrong" if name in _TOKEN_HEADERS else value)
            for name, value in self.exchange.scope["headers"]
        ]
        self.exchange.scope = {**self.exchange.scope, "headers": headers}
        await self.exchange.act(self.exchange.send)


_ACTS: Mapping[StormKind, Callable[[_Blow], Awaitable[None]]] = {
    StormKind.DELAY: _Blow.delay,
    StormKind.STATUS: _Blow.status,
    StormKind.SILENCE: _Blow.silence,
    StormKind.RESET: _Blow.reset,
    StormKind.TRUNCATED: _Blow.truncated,
    StormKind.DRIP: _Blow.drip,
    StormKind.ENDLESS: _Blow.endless,
    StormKind.REDIRECT: _Blow.redirect,
    StormKind.HTML: _Blow.html,
    StormKind.ERROR_IN_200: _Blow.error_in_200,
    StormKind.WRONG_TOKEN: _Blow.wrong_token,
}
