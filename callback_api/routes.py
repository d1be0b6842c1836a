"""The callback, handshakes and health, as plain ASGI: no dependency injection on the way of a callback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from callback_api.admission import Admission, Place
from callback_api.guard import Guard
from callback_api.intake import RefusedCopies, accept
from callback_api.limits import Body, DisconnectedError
from callback_api.metrics import DoorCounts
from callback_api.responses import (
    PROBLEMS,
    BusyError,
    Problem,
    Reply,
    accepted,
    problem_of,
    problem_reply,
    refused,
    reply,
)
from callback_api.writer import Writer
from shared.clock import Clock
from shared.errors import RefusedError, SpoolUnavailableError, UnknownProviderError
from shared.logs import frequent
from shared.providers import AnyProvider
from shared.providers._base import Callback
from shared.spool import Folder

CALLBACK_PATHS = ("/api/callback", "/callbackAPI/api/callback")
CALLBACK_ADDRESSES = tuple(path + slash for path in CALLBACK_PATHS for slash in ("", "/"))
"""Each path, with and without a slash at its end."""

CALLBACK_METHODS = ("GET", "HEAD", "POST")

MAX_KNOWN_QUERIES = 256
"""Query strings whose parameters are remembered; a provider calls with one or two."""

THREAD_BYTES = 64 * 1024
"""A longer body is parsed in a thread, so that the other requests go on."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Course:
    """What is known of one request so far, for its log line."""

    started: float
    provider: str = ""
    receipt_id: str = ""
    size_bytes: int = 0


class CallbackRoute:
    """Takes callbacks, and answers the probes that providers send to the same address."""

    def __init__(
        self,
        *,
        providers: Mapping[str, AnyProvider],
        writer: Writer,
        guard: Guard,
        copies: RefusedCopies,
        clock: Clock,
        admission: Admission,
        counts: DoorCounts,
        max_body_bytes: int,
        body_seconds: float,
        retry_after_seconds: float,
    ) -> None:
        self._providers = providers
        self._writer = writer
        self._guard = guard
        self._copies = copies
        self._clock = clock
        self._admission = admission
        self._counts = counts
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._retry_after_seconds = retry_after_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its first byte to the answer."""
        course = _Course(time.perf_counter())
        headers = headers_of(scope)
        body = Body(receive, headers.get("content-length", ""), self._max_body_bytes, self._body_seconds)
        try:
            if scope["method"] == "POST":
                with self._admission.place() as place:
                    answer = await self._take(scope, headers, body, place, course)
            else:
                answer = self._handshake(scope, headers)
                body.is_complete = True  # Whatever a probe carries is not looked at.
        except DisconnectedError:
            self._counts.disconnected(course.provider)
            self._report("callback.disconnected", course)
            return
        except asyncio.CancelledError as error:
            # The grace time is over. The sender shall hear that it must come again.
            await self._refuse(error, course).send(send)
            raise
        except Exception as error:  # noqa: BLE001  (the provider shall come again, whatever went wrong)
            answer = self._refuse(error, course)
        head_only = scope["method"] == "HEAD"
        if body.is_complete:
            await answer.send(send, head_only=head_only)
        else:
            await answer.send(send, closing=True)
            await body.discard()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take(
        self, scope: Scope, headers: dict[str, str], body: Body, place: Place, course: _Course
    ) -> Reply:
        query = query_of(scope)
        provider = self._provider(query)
        course.provider = provider.name
        if self._guard.reason is not None:
            raise SpoolUnavailableError(self._guard.reason)
        content = await body.read(place)
        course.size_bytes = len(content)
        received_at = self._clock.local()
        callback = Callback(content, headers, query, address_of(scope), received_at)
        try:
            if len(content) <= THREAD_BYTES:
                stored = accept(provider, callback, received_at)
            else:
                stored = await asyncio.to_thread(accept, provider, callback, received_at)
        except RefusedError as error:
            await self._copies.keep(provider, callback, error)
            raise
        course.receipt_id = stored.receipt_id
        await self._writer.write(Folder.SPOOL, stored.entry, stored.content)
        self._counts.accepted(course.provider, course.started)
        acknowledgement = provider.acknowledge(stored.receipt_id)
        self._report("callback.accepted", course, status=acknowledgement.status)
        return accepted(acknowledgement, stored.receipt_id)

    def _handshake(self, scope: Scope, headers: dict[str, str]) -> Reply:
        query = query_of(scope)
        provider = self._provider(query)
        answer = provider.handshake(Callback(b"", headers, query, address_of(scope), self._clock.local()))
        return reply(answer.status, answer.body or b"", answer.media_type, answer.headers)

    def _provider(self, query: Mapping[str, str]) -> AnyProvider:
        name = query.get("provider", "")
        if not name:
            raise UnknownProviderError("the query parameter provider is missing")
        provider = self._providers.get(name)
        if provider is None:
            raise UnknownProviderError("no provider of this name is configured here")
        return provider

    def _refuse(self, error: BaseException, course: _Course) -> Reply:
        _, status, detail = problem_of(error)
        self._counts.refused(course.provider, error)
        if isinstance(error, RefusedError):
            self._report("callback.refused", course, status=status, reason=detail)
        elif isinstance(error, (BusyError, SpoolUnavailableError, asyncio.CancelledError)):
            reason = str(error) or "the grace time is over"
            self._report("callback.unavailable", course, status=status, reason=reason)
        else:
            self._report("callback.unavailable", course, status=status, exc_info=error)
        return refused(error, retry_after_seconds=self._retry_after_seconds)

    def _report(self, name: str, course: _Course, **further: object) -> None:
        """One line about one request; never its body, headers or query."""
        level = _log.error if name == "callback.unavailable" else frequent
        level(
            name,
            provider=course.provider,
            receipt=course.receipt_id,
            bytes=course.size_bytes,
            duration_ms=round((time.perf_counter() - course.started) * 1000, 1),
            **further,
        )


class AliveRoute:
    """Says that the process lives, whatever state the spool is in."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Always 200."""
        await reply(200, b'{"status":"alive"}').send(send, head_only=scope["method"] == "HEAD")


class ReadyRoute:
    """Says whether a callback could be stored now."""

    def __init__(self, guard: Guard, retry_after_seconds: float) -> None:
        self._guard = guard
        self._retry_after_seconds = retry_after_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200, or 503 with the reason."""
        answer = reply(200, b'{"status":"ready"}')
        if self._guard.reason is not None:
            row = PROBLEMS[SpoolUnavailableError]
            answer = problem_reply(
                Problem(row.type, row.status, row.title, self._guard.reason, row.again),
                retry_after_seconds=self._retry_after_seconds,
            )
        await answer.send(send, head_only=scope["method"] == "HEAD")


def headers_of(scope: Scope) -> dict[str, str]:
    """Header values by lower-case name, without the white space around them; the first of a name counts."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1").strip(" \t"))
    return headers


def query_of(scope: Scope) -> Mapping[str, str]:
    """Query parameters; the first of a name counts."""
    query_string: bytes = scope["query_string"]
    return _parsed_query(query_string) if len(query_string) <= 256 else _parse_query(query_string)


def _parse_query(query_string: bytes) -> Mapping[str, str]:
    query: dict[str, str] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        query.setdefault(name, value)
    return MappingProxyType(query)


_parsed_query = lru_cache(MAX_KNOWN_QUERIES)(_parse_query)


def address_of(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
