"""What has to be true at the end of the demo, checked fact by fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from shared.db.models import State, Task
from shared.events import DocumentStatus, Origin, Outcome
from shared.spool import Folder
from signspool.demo.acts import Followed
from signspool.demo.asking import Confirmation
from signspool.demo.facts import Facts
from signspool.demo.script import Cast, Role
from signspool.demo.stage import ARCHIVE, SMARTSHARE
from signspool.demo.values import DocumentFact, Name, short

STORM_STATUS = 503
_SENT_ON = 303


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
        *_of_confirmations(facts),
        *_of_quotas(facts),
        _none("no secret in any file, no personal number in a log", facts.exposed),
        _none("both tiers ran to the end and stopped when asked", facts.complaints),
    ]


def _of_answers(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    calls = [*cast.calls, *(call for act in cast.acts for call in act.calls)]
    expected = [(call.provider, call.document_id, call.action, call.expected) for call in calls]
    posted = [sent for sent in facts.sent if not sent.is_browser]
    found = [(sent.provider, sent.document_id, sent.action, sent.status) for sent in posted]
    yield _same("every callback was sent once and answered as it should be", expected, found)
    browsers = [sent.status for sent in facts.sent if sent.is_browser]
    yield _same("the browser that came back was sent on", [_SENT_ON], browsers)


def _of_documents(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    by_name = {document.name: document for document in facts.documents}
    yield _same("the database knows these documents", _names(cast), set(by_name))
    for role in cast.roles:
        about, document = _about(role.name), by_name.get(role.name)
        if document is None:
            continue
        yield _same(f"{about} is {role.scene.status}", str(role.scene.status), document.status)
        yield _same(f"the history of {about} is right", _expected_history(role), _history(document))
        yield _nothing_owed(about, document)
    for _, item in cast.followed:
        if (document := by_name.get(item.name)) is not None:
            yield from _of_followed(item, document)


def _names(cast: Cast) -> set[Name]:
    return {role.name for role in cast.roles} | {item.name for _, item in cast.followed}


def _nothing_owed(about: str, document: DocumentFact) -> Expectation:
    unfinished = [f"{row.task} {row.state}" for row in document.owed if row.state != State.DONE]
    return _none(f"nothing is owed for {about}", unfinished)


def _of_followed(item: Followed, document: DocumentFact) -> Iterator[Expectation]:
    about = _about(item.name)
    yield _same(f"{about} is {item.status}", str(item.status), document.status)
    yield _same(
        f"the callbacks about {about} are recorded", list(item.called), document.told(Origin.CALLBACK)
    )
    if item.asked is not None:
        yield _same(f"asking told this of {about}", list(item.asked), document.told(Origin.POLL))
    statuses = [status for status, _ in groupby(event.status for event in document.events)]
    course = statuses[1:] if statuses[:1] == [DocumentStatus.PENDING] else statuses
    yield _same(f"the course of {about} is right", [str(status) for status in item.course], course)
    # Whoever comes second says nothing new.
    ends = [event.outcome for event in document.events if event.outcome == Outcome.APPLIED]
    yield _same(f"each change of {about} counts once", len(item.course), len(ends))
    yield _nothing_owed(about, document)


def _expected_history(role: Role) -> list[tuple[str, str]]:
    return [
        (call.action, str(outcome)) for call, outcome in zip(role.calls, role.scene.outcomes, strict=True)
    ]


def _history(document: DocumentFact) -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in document.events]


def _of_files(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    expected = [(role.name, role.is_delivered, role.scene.files) for role in cast.roles]
    expected += [(item.name, item.is_delivered, item.files) for _, item in cast.followed]
    for name, is_delivered, files in expected:
        about = _about(name)
        served = Counter(facts.served.get(name, ()))
        if is_delivered:
            yield _same(f"the provider serves the signed files of {about}", files, served.total())
        for destination in (SMARTSHARE, ARCHIVE):
            arrived = Counter(
                file.sha256
                for file in facts.arrived
                if (file.provider, file.document_id) == name and file.destination == destination
            )
            what = "every signed file once, unaltered" if is_delivered else "no file"
            yield _same(f"{destination} holds {what} of {about}", served, arrived)
        steps, times = facts.advanced.count(name), "once" if is_delivered else "never"
        yield _same(f"the workflow of {about} was moved {times}", int(is_delivered), steps)
    yield _none("no fetched file was left behind", facts.left)


def _of_folders(facts: Facts, cast: Cast) -> Iterator[Expectation]:
    for folder in (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE):
        yield _none(f"{folder}/ is empty", [item.entry for item in facts.lying if item.folder == folder])
    accepted = sorted(sent.words for sent in facts.sent if sent.status == 200)
    done = [item for item in facts.lying if item.folder == Folder.DONE]
    called = sorted(item.receipt_id for item in done if item.origin == Origin.CALLBACK)
    yield _same("done/ holds every accepted callback, once", accepted, called)
    events = [event for document in facts.documents for event in document.events]
    asked = sorted({event.receipt_id for event in events if event.origin == Origin.POLL})
    learned = sorted(item.receipt_id for item in done if item.origin == Origin.POLL)
    yield _same("done/ holds every answer that brought news, once", asked, learned)
    browsers = sum(sent.is_browser for sent in facts.sent)
    returns = [item.entry for item in done if item.origin == Origin.RETURN]
    yield _same("done/ holds every browser that came back, once", browsers, len(returns))
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


def _of_confirmations(facts: Facts) -> Iterator[Expectation]:
    for document in facts.documents:
        owing = [row for row in document.owed if row.task == Task.CONFIRM]
        if not owing:
            continue
        about = _about(document.name)
        found = [item for item in facts.confirmed if (item.provider, item.document_id) == document.name]
        told = document.told(Origin.POLL)
        yield _same(f"every update of {about} was confirmed once", told, [item.status for item in found])
        if document.status == DocumentStatus.COMPLETED:
            yield _none(f"the end of {about} was confirmed after its file was stored", _too_early(found))


def _too_early(found: list[Confirmation]) -> list[str]:
    last = found[-1:]
    if not last:
        return ["it was not confirmed"]
    return [
        f"confirmed at {item.confirmed_at}, stored at {item.stored_at}"
        for item in last
        if item.stored_at is None or item.confirmed_at < item.stored_at
    ]


def _of_quotas(facts: Facts) -> Iterator[Expectation]:
    for quota in facts.quotas:
        yield _same(f"every call to {quota.provider} was booked", quota.arrived, quota.booked)
        within = [] if quota.booked <= quota.limit else [f"{quota.booked} of {quota.limit}"]
        yield _none(f"the calls to {quota.provider} are within its quota", within)


def _same(text: str, expected: object, found: object) -> Expectation:
    return Expectation(text, expected == found, "" if expected == found else f"{found}, expected {expected}")


def _none(text: str, found: tuple[str, ...] | list[str]) -> Expectation:
    return Expectation(text, not found, "; ".join(found))


def _about(name: Name) -> str:
    return short(name)
