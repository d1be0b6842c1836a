"""Sessions of Rest PKI Core: what reading one says about its documents, and when to read it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.errors import PermanentError, TransientError
from shared.events import DocumentStatus, EventType
from shared.providers._base import (
    Answer,
    Found,
    Head,
    Polled,
    PollView,
    Steps,
    answered_object,
    excerpt,
)
from shared.providers._restpki_api import GUID, UNKNOWN_SESSION, Api, code_of, text

COMPLETED = "DocumentSignatureCompleted"
"""The word of a callback about a signed document: who reads it in the session says the same thing."""
PREFIX = "session:"
"""Stands before the words of a session, which no callback has."""

EVENT_TYPES = {
    f"{PREFIX}Processing": EventType.PROCESSING,
    f"{PREFIX}UserCancelled": EventType.CANCELLED,
    f"{PREFIX}Expired": EventType.EXPIRED,
    f"{PREFIX}ProcessingError": EventType.FAILED,
}

_DOCUMENT_WORDS = {"Completed": COMPLETED, "ProcessingError": f"{PREFIX}ProcessingError"}
"""What is said about a document by its own status, whatever the session's is."""
_OPEN = frozenset({"", "PendingSignature", "Processing"})
"""States of a document that end with its session."""
_GOES_ON = frozenset({"Pending", "Processing", "Completed"})
"""States of a session that are no bad end; of what it led to, its documents tell."""

_DOCUMENT = "document."
"""Before the id of a document in the memory of a session; the value is what was last said of it."""
_WHOLE = "whole"
"""What was last said of a session of which no document is known."""
_STATUS = "status"
_PROCESSING_SINCE = "processing_since"
_PROCESSING_PAUSE_SECONDS = 5.0
"""Between two long waits, at first."""
_GROWTH = 0.1
"""The pause before the next reading, as a share of the time that it has lasted so far."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When open sessions are read: all in seconds."""

    shortest_seconds: float
    longest_seconds: float
    give_up_seconds: float
    wait_seconds: float
    """How long the answer to a long wait may take; 0 is for not waiting."""

    def pause(self, since: datetime, now: datetime, *, processing: bool = False) -> float:
        """Seconds to the next reading of what has been as it is since some time."""
        shortest_seconds = self.shortest_seconds
        if processing:
            shortest_seconds = min(shortest_seconds, _PROCESSING_PAUSE_SECONDS)
        lasted_seconds = (now - since).total_seconds()
        return max(shortest_seconds, min(lasted_seconds * _GROWTH, self.longest_seconds))

    def is_over(self, view: PollView) -> bool:
        """Whether a session is so old that it is asked about no more."""
        return view.now - (view.begun_at or view.now) >= timedelta(seconds=self.give_up_seconds)


@dataclass(frozen=True, slots=True)
class _Session:
    """A session as it was answered. `statuses` are its documents' by id, empty where there is none."""

    raw: bytes
    status: str
    statuses: Mapping[str, str]

    @classmethod
    def read(cls, answer: Answer, session_id: str) -> _Session:
        """The session of an answer.

        Raises:
            TransientError: the answer is about something else.
        """
        model = answered_object(answer, "the session")
        status = text(model.get("status"))
        if not status or text(model.get("id")).lower() not in ("", session_id.lower()):
            raise TransientError("something else than the session was answered: it is asked again")
        return cls(answer.body, status, dict(_statuses(model)))


def _statuses(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for document in documents_of(model):
        if document_id := text(document.get("id")).strip():
            yield document_id, text(document.get("status"))


def documents_of(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The documents of a session; none where the list is null."""
    documents = model.get("documents")
    return [item for item in documents if isinstance(item, dict)] if isinstance(documents, list) else []


def remembered(*document_ids: str) -> dict[str, str]:
    """The memory of a session that has these documents, of which nothing was said so far."""
    return {_DOCUMENT + document_id: "" for document_id in document_ids}


def new_memory(*document_ids: str) -> dict[str, str]:
    """The memory of a session that was made just now."""
    return {_STATUS: "Pending", **remembered(*document_ids)}


def _known(memory: Mapping[str, str]) -> dict[str, str]:
    """What is known of a session; whatever else stands in its memory is another's, and passes."""
    return {
        name: value
        for name, value in memory.items()
        if name in (_STATUS, _WHOLE, _PROCESSING_SINCE) or name.startswith(_DOCUMENT)
    }


def read_session(
    api: Api, view: PollView, schedule: Schedule, event_type: Callable[[str], EventType]
) -> Steps[Polled]:
    """Read one session; while it is being processed, and there is no news of it, wait for its end.

    A session that nobody but a stranger's browser has named, and that the provider does not know, is asked
    about no more.
    """
    if not GUID.fullmatch(view.subject):
        return Polled(None, note="this is no id of a session: register it again")
    path = f"/api/signature-sessions/{view.subject}"
    answer = yield api.get(path)
    if answer.status == 422 and code_of(answer) == UNKNOWN_SESSION:
        return _unknown(view, schedule)
    try:
        api.expect(answer, "reading the session")
    except PermanentError as error:
        if schedule.is_over(view):
            return Polled(None, note=str(error))
        raise
    reading = _Reading(view, _Session.read(answer, view.subject), schedule, event_type)
    if reading.found or not reading.is_processing or not schedule.wait_seconds:
        return reading.polled()
    waited = yield api.get(f"{path}/when-completed", silence_seconds=schedule.wait_seconds)
    # Whatever it refuses with for a session that has ended meanwhile is not public.
    if waited.status != 422:
        api.expect(waited, "waiting for the session")
        if answered_object(waited, "the wait").get("completed") is not True:
            return reading.polled()
    answer = yield api.get(path)
    api.expect(answer, "reading the session")
    return _Reading(view, _Session.read(answer, view.subject), schedule, event_type).polled()


def _unknown(view: PollView, schedule: Schedule) -> Polled:
    note = "the provider knows no such session"
    if not _known(view.memory) or schedule.is_over(view):
        return Polled(None, note=note)
    # We made it, or it was registered, or read before: the provider may be wrong for a while.
    return Polled(schedule.pause(view.begun_at or view.now, view.now), note=note)


class _Reading:
    """What one reading of a session says, compared with what is known."""

    def __init__(
        self,
        view: PollView,
        session: _Session,
        schedule: Schedule,
        event_type: Callable[[str], EventType],
    ) -> None:
        self._view = view
        self._session = session
        self._schedule = schedule
        self._event_type = event_type
        self.is_processing = session.status == "Processing"
        known = [name.removeprefix(_DOCUMENT) for name in view.memory if name.startswith(_DOCUMENT)]
        # The list is null or empty once a user has given up: then it is about those that are known.
        statuses = session.statuses or dict.fromkeys(known, "")
        self._words = {document_id: self._word(status) for document_id, status in statuses.items()}
        self.found = tuple(self._news())

    def _word(self, document_status: str) -> str:
        """What is said about a document with this status; nothing as long as it waits for the user."""
        status = self._session.status
        if status == "Completed" and not document_status:
            # Of a completed session every document is ready.
            return COMPLETED
        if document_status in _OPEN:
            if status not in _GOES_ON:
                return _own_word(PREFIX, status)
            return f"{PREFIX}Processing" if "Processing" in (document_status, status) else ""
        return _DOCUMENT_WORDS.get(document_status) or _own_word("document:", document_status)

    @property
    def _whole_word(self) -> str:
        """What is said about the session itself: only where no document is known that it could be said of."""
        status = self._session.status
        return "" if self._words or status in _GOES_ON else _own_word(PREFIX, status)

    def _news(self) -> Iterator[Found]:
        memory = self._view.memory
        for document_id, word in self._words.items():
            if word and word != memory.get(_DOCUMENT + document_id):
                yield Found(Head(document_id, word), self._session.raw)
        if self._whole_word and self._whole_word != memory.get(_WHOLE):
            yield Found(Head(self._view.subject, self._whole_word), self._session.raw)

    @property
    def _is_final(self) -> bool:
        """Whether nothing more comes of the session."""
        if self._session.status == "Completed":
            return bool(self._words) and all(word == COMPLETED for word in self._words.values())
        status = self._event_type(_own_word(PREFIX, self._session.status)).status
        return status is not None and (status is DocumentStatus.EXPIRED or status.is_final)

    def polled(self) -> Polled:
        """What to spool, and when to read the session again."""
        view, now = self._view, self._view.now
        memory = {
            **_known(view.memory),
            _STATUS: self._session.status,
            **{_DOCUMENT + document_id: word for document_id, word in self._words.items()},
            **({_WHOLE: self._whole_word} if self._whole_word else {}),
        }
        begun_at = view.begun_at or now
        note = f"{self._session.status[:60]}, documents: {len(self._words)}"
        again_seconds: float | None = self._schedule.pause(begun_at, now)
        if self.is_processing:
            memory.setdefault(_PROCESSING_SINCE, now.isoformat())
            since = datetime.fromisoformat(memory[_PROCESSING_SINCE])
            again_seconds = self._schedule.pause(since, now, processing=True)
            if self.found:
                # What is news now is spooled before the long wait for the rest.
                again_seconds = 0.0
        if self._is_final:
            again_seconds = None
        elif self._schedule.is_over(view):
            again_seconds, note = None, f"{note}; open for too long: asked no more"
        return Polled(again_seconds, self.found, memory, note=note)


def _own_word(prefix: str, status: str) -> str:
    """A word of the provider's that fits an action, whatever it sends."""
    return prefix + excerpt(status.encode("utf-8", "replace"), 60)


def learned_from(session: Mapping[str, Any], document_id: str) -> dict[str, str]:
    """What a session tells of one of its documents: the session's id, and the document's key."""
    session_id = text(session.get("id"))
    learned = {"session": session_id} if session_id and session_id != document_id else {}
    for document in documents_of(session):
        if text(document.get("id")).strip() == document_id and (key := text(document.get("key"))):
            learned["document_key"] = key
    return learned
