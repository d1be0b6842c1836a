"""What has to be true at the end of the demo, checked fact by fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from shared.db.models import State
from shared.spool import Folder
from signspool.demo.facts import DocumentFact, Facts, Name
from signspool.demo.script import Cast, Role
from signspool.demo.stage import ARCHIVE, SMARTSHARE

STORM_STATUS = 503


@dataclass(frozen=True, slots=True)
class Expectation:
    """One sentence, whether it is true, and what was found in its place if it is not."""

    text: str
    holds: bool
    found: str = ""


def check(facts: Facts, cast: Cast) -> list[Expectation]:
    """Every expectation, in the order in which the demo tells its story."""
    return [
        *_of_answers(facts, cast),
        *_of_documents(facts, cast),
        *_of_files(facts, cast),
        *_of_folders(facts, cast),
        *_of_trouble(facts, cast),
        _none("no secret in any file, no personal number in a log", facts.exposed),
        _none("both tiers ran to the end and stopped when asked", facts.complaints),
    ]


def _of_answers(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    expected = [(call.provider, call.document_id, call.action, call.expected) for call in cast.calls]
    found = [(sent.provider, sent.document_id, sent.action, sent.status) for sent in facts.sent]
    yield _same("every callback was sent once and answered as it should be", expected, found)


def _of_documents(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    by_name = {document.name: document for document in facts.documents}
    yield _same("the database knows these documents", {role.name for role in cast.roles}, set(by_name))
    for role in cast.roles:
        about, document = _about(role.name), by_name.get(role.name)
        if document is None:
            continue
        yield _same(f"{about} is {role.scene.status}", str(role.scene.status), document.status)
        yield _same(f"the history of {about} is right", _expected_history(role), _history(document))
        unfinished = [f"{row.task} {row.state}" for row in document.owed if row.state != State.DONE]
        yield _none(f"nothing is owed for {about}", unfinished)


def _expected_history(role: Role) -> list[tuple[str, str]]:
    return [
        (call.action, str(outcome)) for call, outcome in zip(role.calls, role.scene.outcomes, strict=True)
    ]


def _history(document: DocumentFact) -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in document.events]


def _of_files(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    for role in cast.roles:
        about = _about(role.name)
        served = Counter(facts.served.get(role.name, ()))
        if role.is_delivered:
            yield _same(f"the provider serves the signed files of {about}", role.scene.files, served.total())
        for destination in (SMARTSHARE, ARCHIVE):
            arrived = Counter(
                file.sha256
                for file in facts.arrived
                if (file.provider, file.document_id) == role.name and file.destination == destination
            )
            what = "every signed file once, unaltered" if role.is_delivered else "no file"
            yield _same(f"{destination} holds {what} of {about}", served, arrived)
        steps = facts.advanced.count(role.name)
        yield _same(f"the workflow of {about} was moved {_times(role)}", int(role.is_delivered), steps)
    yield _none("no fetched file was left behind", facts.left)


def _of_folders(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    for folder in (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE):
        yield _none(f"{folder}/ is empty", [item.entry for item in facts.lying if item.folder == folder])
    accepted = sorted(sent.words for sent in facts.sent if sent.status == 200)
    done = sorted(item.receipt_id for item in facts.lying if item.folder == Folder.DONE)
    yield _same("done/ holds every accepted callback, once", accepted, done)
    expected = sorted(str(call.expected) for call in cast.refused)
    refused = sorted(item.reason[:3] for item in facts.lying if item.folder == Folder.REFUSED)
    yield _same("refused/ holds a copy of every refused callback, with its status", expected, refused)


def _of_trouble(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    late = [role.name for role in cast.roles if role.scene.registered_late]
    waited = [(item.provider, item.document_id) for item in facts.waited if item.reason]
    yield _same("what nobody had registered was seen waiting in deferred/, with its reason", late, waited)
    yield _same("SmartShare was made to fail once", [STORM_STATUS], list(facts.storms))
    retried = [retry.lane for retry in facts.retries if str(STORM_STATUS) in retry.reason]
    yield _same("the upload that failed was made again", [f"destination:{SMARTSHARE}"], retried)


def _same(text: str, expected: object, found: object) -> Expectation:
    return Expectation(text, expected == found, "" if expected == found else f"{found}, expected {expected}")


def _none(text: str, found: tuple[str, ...] | list[str]) -> Expectation:
    return Expectation(text, not found, "; ".join(found))


def _times(role: Role) -> str:
    return "once" if role.is_delivered else "never"


def _about(name: Name) -> str:
    return " ".join(name)
