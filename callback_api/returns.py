"""Browsers that come back from a provider's pages: spooled, and sent on to a page that the settings name."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Mapping, Set
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from starlette.types import Receive, Scope, Send

from callback_api.admission import Admission
from callback_api.guard import Guard
from callback_api.metrics import DoorCounts
from callback_api.responses import Reply, problem_of, refused, reply
from callback_api.routes import CALLBACK_PATHS, address_of, headers_of, query_of
from callback_api.writer import Writer
from shared.clock import Clock
from shared.errors import RefusedError, SpoolUnavailableError, UnavailableError, UnknownProviderError
from shared.events import Origin, Trust
from shared.making import make_entry
from shared.providers import AnyProvider
from shared.providers._base import Callback, Returned, ReturnSettings
from shared.spool import Folder

RETURN_PATHS = tuple(path.removesuffix("callback") + "return" for path in CALLBACK_PATHS)
OUR_PARAMETERS = frozenset({"provider", "page"})
MAX_PASSED_ON_CHARACTERS = 2048
"""Of the application's own parameters; longer ones no application gave us to keep."""

# What the address carries is for nobody else: neither for a cache nor for the pages that follow.
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer"}

_log = structlog.get_logger()


class ReturnRoute:
    """Takes a browser's return. It proves nothing, so what it brings is only a reason to ask the provider."""

    def __init__(
        self,
        *,
        providers: Mapping[str, AnyProvider],
        writer: Writer,
        guard: Guard,
        clock: Clock,
        admission: Admission,
        counts: DoorCounts,
        retry_after_seconds: float,
    ) -> None:
        self._providers = providers
        self._writer = writer
        self._guard = guard
        self._clock = clock
        self._admission = admission
        self._counts = counts
        self._retry_after_seconds = retry_after_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One browser; a HEAD is answered alike, leaves nothing behind and counts for nothing."""
        head_only = scope["method"] == "HEAD"
        query = query_of(scope)
        named = query.get("provider", "")
        provider = named if self._is_returning(named) else ""
        refusal: Exception | None = None
        try:
            with self._admission.place():
                answer, refusal = await self._take(scope, query, keep=not head_only)
        except Exception as error:  # noqa: BLE001  (a person waits, and shall try again, whatever went wrong)
            refusal = error
            answer = self._refuse(error)
        if not head_only:
            self._counts.returned(provider, refusal)
        await answer.send(send, head_only=head_only)

    async def _take(
        self, scope: Scope, query: Mapping[str, str], *, keep: bool
    ) -> tuple[Reply, RefusedError | None]:
        """Where the browser goes, and why nothing was kept of it."""
        started = time.perf_counter()
        provider, settings = self._provider(query.get("provider", ""))
        page = settings.page_for(query.get("page", ""))
        callback = Callback(
            b"",
            headers_of(scope),
            query,
            address_of(scope),
            self._clock.local(),
            Origin.RETURN,
        )
        try:
            returned = provider.returned(callback)
        except RefusedError as error:
            # Nothing that can be asked about: the person is sent on all the same.
            _log.info("return.refused", provider=provider.name, reason=str(error))
            return _onward(page, query, frozenset(), {}), error
        if keep:
            receipt_id = await self._store(provider, returned, callback)
            duration_ms = round((time.perf_counter() - started) * 1000, 1)
            _log.info("return.accepted", provider=provider.name, receipt=receipt_id, duration_ms=duration_ms)
        return _onward(page, query, returned.kept.keys(), returned.added), None

    async def _store(self, provider: AnyProvider, returned: Returned, callback: Callback) -> str:
        if self._guard.reason is not None:
            raise SpoolUnavailableError(self._guard.reason)
        made = make_entry(
            provider,
            returned.head,
            json.dumps(dict(returned.kept)).encode(),
            received_at=callback.received_at,
            origin=Origin.RETURN,
            trust=Trust.CLAIMED,
            remote_address=callback.remote_address,
        )
        await self._writer.write(Folder.SPOOL, made.entry, made.content)
        return made.receipt_id

    def _is_returning(self, name: str) -> bool:
        provider = self._providers.get(name)
        return provider is not None and isinstance(provider.settings, ReturnSettings)

    def _provider(self, name: str) -> tuple[AnyProvider, ReturnSettings]:
        if not name:
            raise UnknownProviderError("the query parameter provider is missing")
        provider = self._providers.get(name)
        if provider is None or not isinstance(provider.settings, ReturnSettings):
            raise UnknownProviderError(
                "no provider of this name, from which browsers return, is configured here"
            )
        return provider, provider.settings

    def _refuse(self, error: Exception) -> Reply:
        if isinstance(error, RefusedError):
            _log.info("return.refused", reason=str(error))
            return refused(error, retry_after_seconds=self._retry_after_seconds)
        _, status, _ = problem_of(error)
        expected = isinstance(error, UnavailableError)
        _log.error("return.unavailable", reason=str(error), exc_info=None if expected else error)
        seconds = str(max(1, round(self._retry_after_seconds)))
        words = "Your visit could not be noted just now. Please load this page again in a moment."
        return _words(words, status, {"retry-after": seconds})


def _onward(page: object, query: Mapping[str, str], kept: Set[str], added: Mapping[str, str]) -> Reply:
    """To the page, with its own parameters, the application's, and the provider's id; or a few words."""
    if page is None:
        return _words("Thank you. You may close this window.", 200, {})
    parts = urlsplit(str(page))
    own = parse_qsl(parts.query, keep_blank_values=True)
    taken = {name for name, _ in own} | OUR_PARAMETERS | kept | added.keys()
    passed_on = [(name, value) for name, value in query.items() if name not in taken]
    if sum(len(name) + len(value) for name, value in passed_on) > MAX_PASSED_ON_CHARACTERS:
        passed_on = []
    mine = [(name, value) for name, value in own if name not in added]
    location = urlunsplit(parts._replace(query=urlencode([*mine, *passed_on, *added.items()])))
    return reply(303, b"", "text/plain", {"location": location, **_HEADERS})


def _words(words: str, status: int, headers: Mapping[str, str]) -> Reply:
    text = html.escape(words)
    body = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{text}</title><p>{text}</p></html>\n'
    return reply(status, body.encode(), "text/html; charset=utf-8", {**headers, **_HEADERS})
