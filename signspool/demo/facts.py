"""What is really there: read from spool, database, logs, the destinations and the simulated peers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from shared.events import Origin
from shared.record import SpoolRecord, parse_record
from shared.spool import Entry, Folder
from signspool.demo import asking
from signspool.demo.looking import documents
from signspool.demo.script import Cast
from signspool.demo.stage import ARCHIVE, SMARTSHARE, Stage
from signspool.demo.values import DocumentFact, FileFact, Lying, Name, Retry, Sent, Waited


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
    found = tuple(documents(stage))
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
