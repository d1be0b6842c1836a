"""What the parts of the demo tell one another: a callback, its answer, a document as it was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.db.models import State
from shared.spool import Folder

Name = tuple[str, str]
"""Provider and document id."""

BROWSER = "GET /api/return"
"""In place of an action, for a browser that comes back."""

_ID_LENGTH, _SHORT_LENGTH = 12, 8


@dataclass(frozen=True, slots=True)
class Call:
    """One callback to be sent, the HTTP status that it has to be answered with, and what is special."""

    provider: str
    document_id: str
    action: str
    content: bytes
    headers: Mapping[str, str] = field(repr=False)
    expected: int = 200
    note: str = ""

    @property
    def name(self) -> Name:
        """Provider and document id."""
        return self.provider, self.document_id


@dataclass(frozen=True, slots=True)
class Sent:
    """One callback as it was sent, and what the door answered; `words` is the receipt's id or the problem."""

    provider: str
    document_id: str
    action: str
    note: str
    status: int
    words: str
    milliseconds: float

    @property
    def is_browser(self) -> bool:
        """Whether it is no callback but a browser that comes back."""
        return self.action == BROWSER


@dataclass(frozen=True, slots=True)
class EventFact:
    """One recorded event. `origin` is how it was learned, `status` the document's after it."""

    action: str
    outcome: str
    receipt_id: str
    settled: bool
    origin: str
    status: str


@dataclass(frozen=True, slots=True)
class OwedFact:
    """One outbox row."""

    task: str
    destination: str
    state: str
    attempts: int
    sha256: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class DocumentFact:
    """One document as the database has it."""

    provider: str
    document_id: str
    status: str
    events: tuple[EventFact, ...]
    owed: tuple[OwedFact, ...]

    @property
    def name(self) -> Name:
        """Provider and document id."""
        return self.provider, self.document_id

    def told(self, origin: str) -> list[str]:
        """The actions that were learned in one way, in order."""
        return [event.action for event in self.events if event.origin == origin]

    @property
    def waiting(self) -> str | None:
        """Why something that is owed waits for a person or an application; None when nothing does."""
        return next((row.reason or "" for row in self.owed if row.state == State.WAITING), None)


@dataclass(frozen=True, slots=True)
class Look:
    """One look while all is running: the documents, and how many entries lie in which folder.

    `asked_about` is what providers are still asked about, by provider and subject.
    """

    documents: tuple[DocumentFact, ...]
    counts: Mapping[Folder, int]
    asked_about: frozenset[Name] = frozenset()

    @property
    def receipts(self) -> frozenset[str]:
        """The receipts that are recorded."""
        return frozenset(event.receipt_id for document in self.documents for event in document.events)

    @property
    def open_rows(self) -> list[tuple[DocumentFact, OwedFact]]:
        """What is owed and may still be done without a person."""
        return [
            (document, row)
            for document in self.documents
            for row in document.owed
            if row.state in (State.DUE, State.WAITING)
        ]

    @property
    def is_settled(self) -> bool:
        """Whether everything recorded has come to an end, and no file waits."""
        return (
            not self.open_rows
            and all(event.settled for document in self.documents for event in document.events)
            and not self.counts[Folder.SPOOL]
            and not self.counts[Folder.DEFERRED]
        )


@dataclass(frozen=True, slots=True)
class Waited:
    """An entry that was seen in `deferred/`, with the reason that the database gives."""

    provider: str
    document_id: str
    entry: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileFact:
    """One signed file as a destination holds it."""

    destination: str
    provider: str
    document_id: str
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lying:
    """One entry in one of the folders, how it came, and why it lies there."""

    folder: str
    entry: str
    receipt_id: str
    reason: str
    origin: str


@dataclass(frozen=True, slots=True)
class Retry:
    """One attempt that failed and was made again, as the processor's log has it."""

    task: str
    lane: str
    reason: str


def short(name: Name) -> str:
    """A document's name for a table: of an id as long as a UUID, the beginning."""
    provider, document_id = name
    return f"{provider} {document_id if len(document_id) <= _ID_LENGTH else document_id[:_SHORT_LENGTH]}"
