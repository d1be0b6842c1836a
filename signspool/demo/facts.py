"""What is really there: read from spool, database, logs, the destinations and the simulated peers."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sqlalchemy import select

from processor import polls
from processor.documents import outbox_item, outbox_query
from shared.db.models import Document, EventRow, OutboxRow, State
from shared.events import Origin
from shared.record import SpoolRecord, parse_record
from shared.spool import Entry, Folder
from signspool.demo import asking
from signspool.demo.acts import Name
from signspool.demo.script import Cast
from signspool.demo.stage import ARCHIVE, SMARTSHARE, Stage

_MANY = 1000
BROWSER = "GET /api/return"
"""In place of an action, for a browser that comes back."""


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


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the demo found at its end.

    `served` is the digests that the provider gives out, by document; `advanced` the documents whose workflow
    SmartShare moved, once for each time. `storms` is the statuses that SmartShare was made to answer.
    `exposed` names files in which a secret stands, and logs with a personal number; `left` is files that
    should have been deleted once they were delivered. `complaints` is what was said of the two processes.
    """

    sent: tuple[Sent, ...]
    documents: tuple[DocumentFact, ...]
    served: Mapping[Name, tuple[str, ...]]
    arrived: tuple[FileFact, ...]
    advanced: tuple[Name, ...]
    lying: tuple[Lying, ...]
    waited: tuple[Waited, ...]
    confirmed: tuple[asking.Confirmation, ...]
    quotas: tuple[asking.Quota, ...]
    retries: tuple[Retry, ...]
    storms: tuple[int | None, ...]
    exposed: tuple[str, ...]
    left: tuple[str, ...]
    complaints: tuple[str, ...]
    seconds: float


def look(stage: Stage) -> Look:
    """Look once at database and folders."""
    # First what is asked about, since an answer is spooled before the asking ends.
    with stage.database.reading() as connection:
        asked = polls.listing(connection, None, _MANY)
    about = frozenset((row["provider"], row["subject"]) for row in asked if row["next_at"] is not None)
    # Then the folders: what lies in spool/ may be recorded a moment later, but not the other way about.
    counts = {folder: sum(1 for _ in stage.spool.entries(folder)) for folder in Folder}
    return Look(tuple(_documents(stage)), counts, about)


def see_waiting(stage: Stage, document: DocumentFact) -> Waited | None:
    """The entry of a document that lies in `deferred/` and waits; None when none does."""
    receipts = {event.receipt_id for event in document.events}
    reason = document.waiting
    if reason is None:
        return None
    for entry in stage.spool.entries(Folder.DEFERRED):
        if any(receipt in entry.name for receipt in receipts):
            return Waited(*document.name, f"{entry.day}/{entry.name}", reason)
    return None


def collect(
    stage: Stage,
    cast: Cast,
    *,
    sent: Iterable[Sent],
    waited: Iterable[Waited],
    complaints: Iterable[str],
    seconds: float,
) -> Facts:
    """Read all facts, once both tiers have stopped."""
    found = tuple(_documents(stage))
    names = cast.by_workflow()
    requests = cast.world.requests_to("smartshare")
    return Facts(
        sent=tuple(sent),
        documents=found,
        served={name: tuple(digests) for name, digests in cast.served().items()},
        arrived=(*_attached(cast), *_archived(stage)),
        advanced=tuple(names[step["cdFluxo"]] for step in cast.world.smartshare.advances),
        lying=tuple(_lying(stage, found)),
        waited=tuple(waited),
        confirmed=tuple(asking.confirmations(stage, cast)),
        quotas=tuple(asking.quotas(stage, cast)),
        retries=tuple(_retries(stage)),
        storms=tuple(request.status for request in requests if request.storm is not None),
        exposed=tuple(_exposed(stage, cast)),
        left=tuple(str(path.relative_to(stage.home)) for path in _files(stage.spool.files)),
        complaints=tuple(complaints),
        seconds=seconds,
    )


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log; none when it is not there."""
    try:
        return log.read_text("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def _documents(stage: Stage) -> Iterator[DocumentFact]:
    """Every document with its history and what is owed, in three queries, since this is asked often."""
    events: dict[int, list[EventFact]] = defaultdict(list)
    owed: dict[int, list[OwedFact]] = defaultdict(list)
    with stage.database.transaction() as connection:
        rows = connection.execute(
            select(Document.id, Document.provider, Document.document_id, Document.status).order_by(
                Document.provider.desc(), Document.document_id
            )
        ).all()
        for event in connection.execute(select(EventRow.__table__).order_by(EventRow.id)).mappings():
            events[event["document_fk"]].append(
                EventFact(
                    event["action"],
                    event["outcome"],
                    event["receipt_id"],
                    event["settled_at"] is not None,
                    event["origin"],
                    event["status_after"],
                )
            )
        for owing in connection.execute(outbox_query().order_by(OutboxRow.id)).mappings():
            item = outbox_item(owing)
            names = ("task", "destination", "state", "attempts", "sha256", "last_error")
            owed[owing["document_fk"]].append(OwedFact(*(item[name] for name in names)))
    for row in rows:
        yield DocumentFact(
            row.provider, row.document_id, row.status, tuple(events[row.id]), tuple(owed[row.id])
        )


def _attached(cast: Cast) -> Iterator[FileFact]:
    names = cast.by_workflow()
    for attachment in cast.world.smartshare.attachments:
        provider, document_id = names[attachment.values["cdFluxo"]]
        file = attachment.file
        yield FileFact(SMARTSHARE, provider, document_id, file.name, len(file.content), file.sha256)


def _archived(stage: Stage) -> Iterator[FileFact]:
    for path in _files(stage.archive):
        # Beside each file lies its description.
        if path.suffix == ".json":
            continue
        provider, document_id, name = path.relative_to(stage.archive).parts
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield FileFact(ARCHIVE, provider, document_id, name, len(content), digest)


def _lying(stage: Stage, found: Iterable[DocumentFact]) -> Iterator[Lying]:
    outcomes = {event.receipt_id: event.outcome for document in found for event in document.events}
    waiting = {
        event.receipt_id: reason
        for document in found
        if (reason := document.waiting) is not None
        for event in document.events
    }
    for folder in Folder:
        for entry in sorted(stage.spool.entries(folder)):
            record = parse_record(stage.spool.read(folder, entry))
            receipt_id = record.receipt.id if record.receipt is not None else ""
            reasons = {
                Folder.SPOOL: "not recorded yet",
                Folder.DEFERRED: waiting.get(receipt_id, "still owed"),
                Folder.DONE: outcomes.get(receipt_id, "in no history"),
                Folder.REFUSED: _refusal(record),
                Folder.QUARANTINE: _quarantined(stage, entry),
            }
            origin = record.receipt.origin if record.receipt is not None else Origin.HAND
            reason = "a browser came back" if origin is Origin.RETURN else reasons[folder]
            yield Lying(folder, f"{entry.day}/{entry.name}", receipt_id, reason, origin)


def _refusal(record: SpoolRecord) -> str:
    refusal = record.receipt.refusal if record.receipt is not None else None
    return f"{refusal['status']} {refusal['title']}: {refusal['detail']}" if refusal else "no refusal noted"


def _quarantined(stage: Stage, entry: Entry) -> str:
    return str((stage.spool.reason(entry) or {}).get("reason", "no reason beside it"))


def _retries(stage: Stage) -> Iterator[Retry]:
    for line in last_lines(stage.logs / "processor.log", 100_000):
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "delivery.retry":
            yield Retry(said["task"], said["lane"], said["error"])


def _exposed(stage: Stage, cast: Cast) -> Iterator[str]:
    own = (secret for act in cast.acts for secret in act.secrets)
    secrets = [secret.encode() for secret in chain(cast.secrets, own)]
    people = {
        person.identifier.encode()
        for document in cast.world.certisign.documents.values()
        for person in document.attendees
    } | {number.encode() for act in cast.acts for number in act.private}
    for path in _files(stage.home):
        if path.is_relative_to(stage.secrets):
            continue
        content = path.read_bytes()
        private = people if path.is_relative_to(stage.logs) else ()
        if any(text in content for text in chain(secrets, private)):
            yield str(path.relative_to(stage.home))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
