"""Asking ArqSign how a process stands: one call each time, the lightest that can tell what is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.errors import TransientError
from shared.events import DocumentStatus, EventType
from shared.providers._arqsign_api import Api
from shared.providers._arqsign_words import Fields, fold, instant, text
from shared.providers._asking import WISH
from shared.providers._base import (
    Answer,
    Found,
    Head,
    Polled,
    PollView,
    Request,
    Steps,
    answered_object,
    excerpt,
)

EXPIRES = "expires"
"""Under this name it is remembered when a process expires: an instant, `NOT_KNOWN`, or empty for never."""
NOT_KNOWN = "?"

EXPIRY_PASSED = "dataExpiracao"
"""Our action for a process whose date of expiry has passed: ArqSign has no status for that."""
RESENT = "dataReenvio"
"""Our action for a process that had expired or ended, and goes on."""
UNKNOWN_PROCESS = "erro:400"
"""Our action for a process that ArqSign does not know, when its words say no more."""

_NEXT = "next"
_PROCESS = "process"
_WORD, _TOLD, _EXPIRED = "word", "told", "expired"
_LONGEST_FACTOR = 32
"""What expired is asked about after 1, 2, 4... and at last after so many intervals."""

_OVER = frozenset(status for status in DocumentStatus if status.is_final or status is DocumentStatus.EXPIRED)


def poll_process(
    api: Api, view: PollView, meaning: Callable[[str], EventType], errors: Sequence[str]
) -> Steps[Polled]:
    """Ask once about a process. `meaning` is that of an action, `errors` are the actions for errors.

    Each time is one call, so that whatever becomes of the next one this one is not made again: of a status
    that needs the data of the process, those are asked for right afterwards.

    Raises:
        As `Api.object_of`, but for an unknown or deleted process, which ends the asking.
    """
    settings, wished = api.settings, WISH in view.memory
    if not wished:
        if not settings.poll:
            return Polled(settings.poll_interval_seconds, note="not asked: poll is not set")
        if view.status is not None and view.status.is_final:
            return Polled(None, note=f"over: {view.status}")
    request, is_process = _request(api, view)
    answer = yield request
    if answer.status == 400:
        return _unknown(view, answer, errors)
    fields = api.object_of(answer, "the process")
    memory = {name: value for name, value in view.memory.items() if name not in (WISH, _NEXT)}
    told = _Told(api.settings.poll_interval_seconds, view, fields, answer, memory, is_process)
    polled = told.judged(meaning)
    return polled if settings.poll or polled.again_seconds == 0 else _once(polled)


def _once(polled: Polled) -> Polled:
    """The same, for what is asked about because somebody wanted it once."""
    return Polled(None, polled.found, polled.memory, polled.expires_at, polled.note)


def _request(api: Api, view: PollView) -> tuple[Request, bool]:
    """What to ask for, and whether it is the data of the process with its files."""
    if view.memory.get(_NEXT) == _PROCESS:
        return api.process(view.subject), True
    settings = api.settings
    expires = view.memory.get(EXPIRES, NOT_KNOWN)
    expires_at = instant(expires)
    if expires == NOT_KNOWN or view.status in _OVER or (expires_at is not None and expires_at <= view.now):
        return api.about(settings.signers_path, view.subject), False
    return api.about(settings.status_path, view.subject), False


@dataclass(slots=True)
class _Told:
    """What ArqSign said of a process, beside what was known."""

    interval_seconds: float
    view: PollView
    fields: Fields
    answer: Answer
    memory: dict[str, str]
    is_process: bool

    def judged(self, meaning: Callable[[str], EventType]) -> Polled:
        """What follows: what is news, and when to ask again."""
        word = text(self.fields.get("status"))
        action, before = f"status:{word}", self.memory.get(_WORD)
        kind = meaning(action)
        self.memory[_WORD] = fold(word)
        expires_at = self._expires_at()
        if kind is EventType.COMPLETED:
            return self._polled(None, self._news(action, DocumentStatus.COMPLETED), word)
        if kind.status is not None and kind.status is not DocumentStatus.PENDING and not self.is_process:
            return self._ask_for_process(word)
        if kind.status is not None and kind.status.is_final:
            # Whether refused or cancelled, and when, stands in the data of the process.
            return self._polled(None, self._news(action, kind.status), word)
        if kind is EventType.EXPIRED or (expires_at is not None and expires_at <= self.view.now):
            return self._expired(action if kind is EventType.EXPIRED else EXPIRY_PASSED, word)
        return self._goes_on(kind, action, word, before)

    def _goes_on(self, kind: EventType, action: str, word: str, before: str | None) -> Polled:
        if self.view.status in _OVER or _EXPIRED in self.memory:
            if not self.is_process:
                return self._ask_for_process(word)
            self.memory.pop(_EXPIRED, None)
            return self._polled(self.interval_seconds, self._news(RESENT, DocumentStatus.PENDING), word)
        is_news = kind is not EventType.PROGRESS if before is None else before != fold(word)
        found = (self._found(action),) if is_news else ()
        return self._polled(self.interval_seconds, found, word)

    def _expires_at(self) -> datetime | None:
        # The status alone comes without it.
        if self.is_process or self.fields.get("dataexpiracao") is not None:
            found = instant(self.fields.get("dataexpiracao"))
            self.memory[EXPIRES] = "" if found is None else found.isoformat()
        elif self.memory.get(EXPIRES, NOT_KNOWN) == NOT_KNOWN:
            self.memory[EXPIRES] = ""
        return instant(self.memory[EXPIRES])

    def _expired(self, action: str, word: str) -> Polled:
        times = int(self.memory.get(_EXPIRED, "0"))
        self.memory[_EXPIRED] = str(times + 1)
        again_seconds = self.interval_seconds * min(2**times, _LONGEST_FACTOR)
        return self._polled(again_seconds, self._news(action, DocumentStatus.EXPIRED), f"{word}, expired")

    def _ask_for_process(self, word: str) -> Polled:
        self.memory[_NEXT] = _PROCESS
        if WISH in self.view.memory:
            # It is not fulfilled yet.
            self.memory[WISH] = self.view.memory[WISH]
        return self._polled(0, (), word)

    def _news(self, action: str, status: DocumentStatus) -> tuple[Found, ...]:
        """What was said, unless we said it before and it is known by now."""
        dates = [text(self.fields.get(name)) for name in ("datacancelamento", "datareenvio", "dataexpiracao")]
        fact = " ".join([action, *dates])
        if self.memory.get(_TOLD) == fact and self.view.status is status:
            return ()
        self.memory[_TOLD] = fact
        return (self._found(action),)

    def _found(self, action: str) -> Found:
        return Found(Head(self.view.subject, action), self.answer.body)

    def _polled(self, again_seconds: float | None, found: tuple[Found, ...], word: str) -> Polled:
        expires_at = instant(self.memory[EXPIRES])
        return Polled(again_seconds, found, self.memory, expires_at, excerpt(word.encode(), 60))


def _unknown(view: PollView, answer: Answer, errors: Sequence[str]) -> Polled:
    """ArqSign does not know the process, or no more: that ends the asking."""
    words = fold(" ".join(_texts(answer.body)))
    action = next((word for word in errors if fold(word.removeprefix("erro:")) in words), UNKNOWN_PROCESS)
    media_type = answer.headers.get("content-type", "text/plain")
    found = Found(Head(view.subject, action), answer.body, media_type)
    return Polled(None, (found,), _without_wish(view.memory), note=f"not known: {excerpt(answer.body, 60)}")


def _without_wish(memory: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in memory.items() if name != WISH}


def _texts(body: bytes) -> list[str]:
    """Every text in an answer: those of its JSON, or all of it."""
    try:
        waiting: list[object] = [answered_object(Answer(0, {}, body), "the refusal")]
    except TransientError:
        return [body.decode("utf-8-sig", "replace").strip().strip('"')]
    found = []
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            found.append(value)
    return found
