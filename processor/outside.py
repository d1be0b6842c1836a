"""The only HTTP sender: one client per provider or destination, with limits on time, size and target."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from email.utils import formatdate
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from urllib.parse import urljoin

import httpx

from processor.pace import Pace
from processor.tls import make_context, why_refused
from shared.errors import (
    AccessError,
    NoAnswerError,
    NotSentError,
    PermanentError,
    SignspoolError,
    TransientError,
)
from shared.providers._base import Answer, PeerTls, origin_of

MIB = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_WORDS_BYTES = 64 * 1024
_WORDS_SECONDS = 5.0
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOTHING_DONE = frozenset({301, 307, 308})
"""Redirects which say that this address does nothing; after the others something may have been done."""
# Raised while the request is put together, before its first byte.
_NOT_A_REQUEST = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class Streamed:
    """An answer whose body is still on its way; header names are lower case."""

    def __init__(self, peer: str, response: httpx.Response, words_seconds: float) -> None:
        self._peer = peer
        self._words_seconds = words_seconds
        self._response = response
        self.status = response.status_code
        headers = dict(response.headers)
        # Without a date, the arrival is the date: a time that the answer names can be counted from there.
        headers.setdefault("date", formatdate(usegmt=True))
        self.headers: Mapping[str, str] = headers

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces, decompressed piece by piece should the server have compressed it unasked.

        Raises:
            NoAnswerError: the compressed body is damaged, cut off, or compressed in a way that is not known.
        """
        if self._response.is_stream_consumed:
            # The transport read the answer before it handed it over, and undid any compression.
            yield self._response.content
            return
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        pieces = self._response.aiter_raw()
        if coding in ("gzip", "x-gzip", "deflate"):
            pieces = self._inflate(pieces)
        elif coding not in ("", "identity"):
            raise NoAnswerError(
                f"{self._peer} compressed its answer as {coding[:20]!r}: have it answer without compression"
            )
        async for piece in pieces:
            yield piece

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body.

        Raises:
            NoAnswerError: it is longer than the limit, so that what it says stays unknown.
        """
        body = bytearray()
        async with aclosing(self.chunks()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > limit_bytes:
                    raise NoAnswerError(f"{self._peer} answered with more than {limit_bytes} bytes")
        return bytes(body)

    async def beginning(self) -> bytes:
        """The first 64 KiB of the body at most, and of what comes within a few seconds: for a message.

        Whatever goes wrong on the way: of an answer that is no success the status says it all, and a page
        that is cut off must not make an unknown outcome of a definite one.
        """
        body = bytearray()
        with suppress(httpx.HTTPError, ssl.SSLError, SignspoolError, TimeoutError):
            async with asyncio.timeout(self._words_seconds), aclosing(self.chunks()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) >= _WORDS_BYTES:
                        break
        return bytes(body[:_WORDS_BYTES])

    async def _inflate(self, raw: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        # 32 + 15: the header tells gzip from zlib. The size of a step is bounded by what comes out of it.
        inflater = zlib.decompressobj(wbits=47)
        empty = True
        try:
            async for chunk in raw:
                empty = False
                waiting = chunk
                while not inflater.eof:
                    piece = inflater.decompress(waiting, _PIECE_BYTES)
                    waiting = inflater.unconsumed_tail
                    if piece:
                        yield piece
                    if not waiting and len(piece) < _PIECE_BYTES:
                        break
                if inflater.eof:
                    # What stands behind the end is no part of the answer, and may have none itself.
                    return
        except zlib.error:
            raise NoAnswerError(f"{self._peer} sent a compressed answer that is damaged") from None
        if not inflater.eof and not empty:
            raise NoAnswerError(f"{self._peer} sent a compressed answer that is cut off")


class Outside:
    """Sends requests to one peer, and to no other origin than those it was given.

    `peer` names the other side in messages. Redirects are not followed, since an answer must not choose
    where credentials go; proxies of the environment are not used.

    A request that cannot have left this machine raises `NotSentError`; one that may have, `NoAnswerError`.
    `tls` is for peers that ask for more than the usual; `calls_per_second` keeps calls apart.
    No message holds a query, a header or a body.

    `on_request` is told how each request ended, and after how many seconds: `2xx` to `5xx` by the status of a
    whole answer, `not_sent`, or `no_answer`.
    """

    def __init__(
        self,
        peer: str,
        *,
        origins: frozenset[str],
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        total_timeout_seconds: float,
        ca_file: Path | None = None,
        tls: PeerTls | None = None,
        calls_per_second: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        on_request: Callable[[str, float], None] = lambda _code, _seconds: None,
    ) -> None:
        self._peer = peer
        self._origins = origins
        self._timeout = httpx.Timeout(
            connect=connect_timeout_seconds,
            pool=connect_timeout_seconds,
            read=read_timeout_seconds,
            write=read_timeout_seconds,
        )
        self._words_seconds = min(_WORDS_SECONDS, read_timeout_seconds)
        self._total_timeout_seconds = total_timeout_seconds
        self._ca_file = ca_file
        self._peer_tls = tls
        self._pace = Pace(calls_per_second)
        self._transport = transport
        self._on_request = on_request
        self._client: httpx.AsyncClient | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        limit_bytes: int = MIB,
        silence_seconds: float | None = None,
    ) -> Answer:
        """Send one request and read its answer, whatever its status.

        Content that is iterated is sent in chunks unless `headers` has a Content-Length. `silence_seconds` is
        how long the other side may keep silent, where that is longer than the settings say.

        Raises:
            PermanentError: the address is not allowed, or this is no request.
            AccessError: our certificate is refused.
            NotSentError: the request did not leave this machine.
            TransientError: the answer is a redirect by an address that does nothing.
            NoAnswerError: it may have, and no whole answer of at most `limit_bytes` came in time.
        """
        async with self.stream(
            method, url, headers=headers, content=content, silence_seconds=silence_seconds
        ) as streamed:
            if not streamed.is_success:
                return Answer(streamed.status, streamed.headers, await streamed.beginning())
            return Answer(streamed.status, streamed.headers, await streamed.read(limit_bytes))

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        redirects: bool = False,
        silence_seconds: float | None = None,
    ) -> AbstractAsyncContextManager[Streamed]:
        """Like `send`, for a body of any length: the total time limit covers the whole block.

        With `redirects`, an answer that points elsewhere is an answer like any other. It is not followed.
        """
        return self._stream(
            method, url, headers or {}, content, redirects=redirects, silence_seconds=silence_seconds
        )

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str | bytes],
        content: bytes | AsyncIterable[bytes] | None,
        *,
        redirects: bool,
        silence_seconds: float | None,
    ) -> AsyncIterator[Streamed]:
        self._check_origin(url)
        raw_headers = [_raw_header(name, value) for name, value in headers.items()]
        client = self._open()
        began, code = perf_counter(), "no_answer"
        timeout = self._timeout_of(silence_seconds)
        await self._pace.turn()
        try:
            async with asyncio.timeout(self._total_timeout_seconds) as limit:
                request = client.build_request(
                    method, url, headers=raw_headers, content=content, timeout=timeout
                )
                response = await client.send(request, stream=True)
                code = f"{response.status_code // 100}xx"
                try:
                    if not redirects:
                        self._refuse_redirect(url, response)
                    yield Streamed(self._peer, response, self._words_seconds)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            translated = self._translated(error, timeout)
            code = "no_answer" if isinstance(translated, NoAnswerError) else "not_sent"
            raise translated from error
        except TimeoutError as error:
            if not limit.expired():
                raise
            code = "no_answer"
            raise NoAnswerError(
                f"{self._peer} did not finish its answer within {self._total_timeout_seconds:g} s"
            ) from error
        finally:
            self._on_request(code, perf_counter() - began)

    def why_unusable(self) -> str | None:
        """Why no request can be sent with these settings, or None."""
        try:
            self._tls()
        except NotSentError as error:
            return str(error)
        return None

    async def aclose(self) -> None:
        """Close every connection; the next request opens anew."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            # Both write addresses, queries included, into the log at levels that people turn on.
            for name in ("httpx", "httpcore"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx.AsyncClient(
                verify=self._tls(),
                timeout=self._timeout,
                headers={
                    "User-Agent": f"signspool/{version('signspool')}",
                    "Accept-Encoding": "identity",
                    # A kept connection may be closed by the server in the very moment of its next use, which
                    # would make the outcome of a request unknown for the sake of one saved handshake.
                    "Connection": "close",
                },
                follow_redirects=False,
                trust_env=False,
                # How much happens at once is for the lanes to say.
                limits=httpx.Limits(max_connections=None),
                transport=self._transport,
            )
        return self._client

    def _tls(self) -> ssl.SSLContext:
        if self._peer_tls is not None:
            return make_context(self._peer_tls)
        if self._ca_file is None:
            return _public_authorities()
        try:
            return ssl.create_default_context(cafile=str(self._ca_file))
        except OSError as error:
            raise NotSentError(
                f"the certificates in {self._ca_file} cannot be read ({error.strerror}): correct ca_file"
            ) from error

    def _check_origin(self, url: str) -> None:
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise PermanentError(f"the address of {self._peer} cannot be used: {error}") from None
        if origin not in self._origins:
            raise PermanentError(f"{origin} is not among the addresses that the settings give {self._peer}")

    def _refuse_redirect(self, url: str, response: httpx.Response) -> None:
        """Raise for an answer that points elsewhere.

        No document is to blame for that: a login page, a page for the time of maintenance and a wrong address
        in the settings all look like this, so it is tried again.
        """
        status = response.status_code
        if not 300 <= status < 400:
            return
        said = (
            f"{self._peer} answered with {status}, a redirect to {redirect_target(url, response.headers)}, "
            "which is not followed: check the address in the settings"
        )
        if status in _NOTHING_DONE:
            raise TransientError(said)
        # Many an application answers so when it has done its work, or broke while doing it.
        raise NoAnswerError(f"{said}, and whether it was done over there")

    def _timeout_of(self, silence_seconds: float | None) -> httpx.Timeout:
        read_seconds = self._timeout.read
        if silence_seconds is None or read_seconds is None or silence_seconds <= read_seconds:
            return self._timeout
        return httpx.Timeout(
            connect=self._timeout.connect, pool=self._timeout.pool, write=read_seconds, read=silence_seconds
        )

    def _translated(self, error: Exception, timeout: httpx.Timeout) -> SignspoolError:
        refusal = why_refused(error)
        if refusal is not None:
            return AccessError(f"{self._peer} cannot be asked: {refusal}")
        if isinstance(error, _NEVER_SENT):
            return NotSentError(f"{self._peer} cannot be reached: {_why_no_connection(error)}")
        if isinstance(error, _NOT_A_REQUEST):
            # The library's own words would quote the header or the address.
            return PermanentError(f"the request to {self._peer} has a header or an address that HTTP forbids")
        if isinstance(error, httpx.TimeoutException):
            return NoAnswerError(f"{self._peer} was silent for {timeout.read:g} s after the request")
        said = f"{self._peer} broke the connection off before its answer was whole"
        if self._peer_tls is not None and self._peer_tls.certificate:
            said += "; if that goes on, it may be our certificate that it does not accept"
        return NoAnswerError(said)


def redirect_target(url: str, headers: Mapping[str, str]) -> str:
    """Where an answer to a request points, for a message: the origin, in which no secret can stand."""
    if "location" not in headers:
        return "nowhere"
    try:
        return origin_of(urljoin(url, headers["location"]))
    except ValueError:
        return "an address that is none"


@cache
def _public_authorities() -> ssl.SSLContext:
    """What trusts the public authorities: the same for all, since each copy takes time and a megabyte."""
    return httpx.create_ssl_context(trust_env=False)


def _why_no_connection(error: BaseException) -> str:
    """The reason deep inside a connection error, in words that hold no address."""
    reason = "no connection; check host, port and network"
    if isinstance(error, httpx.PoolTimeout):
        reason = "every connection is in use"
    elif isinstance(error, httpx.ConnectTimeout):
        reason = "no connection in time; check host, port and firewall"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted ({cause.verify_message}); check the host name in the "
                "settings, the clock, and ca_file if its authority is a private one"
            )
        # That the handshake waits to be answered is no error of its own.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLWantReadError):
            reason = f"no TLS connection ({cause.reason or 'no reason given'}); check scheme and port"
        elif isinstance(cause, socket.gaierror):
            reason = "its host name cannot be resolved; check the name in the settings and the DNS"
        elif isinstance(cause, ConnectionRefusedError):
            reason = "the connection was refused; check host and port, and whether it is running"
        cause = cause.__cause__ or cause.__context__
    return reason


def _raw_header(name: str, value: str | bytes) -> tuple[bytes, bytes]:
    try:
        return name.encode("ascii"), value.encode("ascii") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise PermanentError(f"the header {name!r} holds a letter outside ASCII: correct it") from None
