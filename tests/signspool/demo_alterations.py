"""Facts of the demo, each altered so that one of its expectations has to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shared.db.models import State
from shared.events import DocumentStatus
from shared.spool import Folder
from signspool.demo.facts import Facts
from signspool.demo.stage import ARCHIVE, SMARTSHARE
from signspool.demo.values import EventFact, Lying, short


def _with_document(facts: Facts, place: int, **changes: Any) -> Facts:
    documents = list(facts.documents)
    documents[place] = replace(documents[place], **changes)
    return replace(facts, documents=tuple(documents))


def _answered_otherwise(facts: Facts) -> Facts:
    return replace(facts, sent=(*facts.sent[:-1], replace(facts.sent[-1], status=500)))


def _history_otherwise(facts: Facts) -> Facts:
    events = facts.documents[1].events
    return _with_document(facts, 1, events=(*events[:-1], replace(events[-1], outcome="applied")))


def _still_owed(facts: Facts) -> Facts:
    owed = facts.documents[0].owed
    return _with_document(facts, 0, owed=(replace(owed[0], state=State.HELD), *owed[1:]))


def altered(facts: Facts, destination: str, document: str = "155") -> Facts:
    """What came to a destination of a document, named by the beginning of its id, is another file."""
    return replace(
        facts,
        arrived=tuple(
            replace(file, sha256="0" * 64)
            if file.destination == destination and file.document_id.startswith(document)
            else file
            for file in facts.arrived
        ),
    )


def _twice(facts: Facts, destination: str) -> Facts:
    again = next(
        file for file in facts.arrived if (file.destination, file.document_id) == (destination, "155")
    )
    return replace(facts, arrived=(*facts.arrived, again))


def _delivered_unasked(facts: Facts) -> Facts:
    unasked = replace(facts.arrived[0], provider="ssign", document_id="158")
    return replace(facts, arrived=(*facts.arrived, unasked))


def _served_less(facts: Facts) -> Facts:
    return replace(facts, served={**facts.served, ("ssign", "161"): facts.served["ssign", "161"][:1]})


def _lying(facts: Facts, folder: Folder, origin: str = "callback") -> Facts:
    lying = Lying(folder, "2026-11-21/155_x.json", "x", "499 made up", origin)
    return replace(facts, lying=(*facts.lying, lying))


def _one_less(facts: Facts, folder: Folder, origin: str = "callback") -> Facts:
    gone = next(item for item in facts.lying if (item.folder, item.origin) == (folder, origin))
    return replace(facts, lying=tuple(item for item in facts.lying if item != gone))


def _place(facts: Facts, name: str) -> int:
    return [short(document.name) for document in facts.documents].index(name)


def _events(facts: Facts, name: str) -> tuple[EventFact, ...]:
    return facts.documents[_place(facts, name)].events


def _with_events(facts: Facts, name: str, events: tuple[EventFact, ...]) -> Facts:
    return _with_document(facts, _place(facts, name), events=events)


def _told_otherwise(facts: Facts, name: str, origin: str, action: str) -> Facts:
    """Whatever was learned of a document in one way is another thing."""
    events = _events(facts, name)
    changed = (replace(event, action=action) if event.origin == origin else event for event in events)
    return _with_events(facts, name, tuple(changed))


def _counted_twice(facts: Facts) -> Facts:
    events = tuple(replace(event, outcome="applied") for event in _events(facts, _SIGNED))
    return _with_events(facts, _SIGNED, events)


def _quota(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, quotas=tuple(replace(quota, **changes) for quota in facts.quotas))


def _confirmed(facts: Facts, **changes: Any) -> Facts:
    """Every confirmation is another one."""
    return replace(facts, confirmed=tuple(replace(item, **changes) for item in facts.confirmed))


def _browser_refused(facts: Facts) -> Facts:
    sent = [replace(item, status=404) if item.is_browser else item for item in facts.sent]
    return replace(facts, sent=tuple(sent))


_SIGNED, _LEFT = "restpki 8a84738a", "restpki 9b814215"
_TOLD, _SILENT = "arqsign 0e71b22b", "arqsign f4076635"
_JOB = "posten 12087"
_EARLY = "2026-01-01T00:00:00.000000+00:00"
_DONE = "done/ holds every accepted callback, once"
_REFUSED = "refused/ holds a copy of every refused callback, with its status"
_WAITED = "what nobody had registered was seen waiting in deferred/, with its reason"
_RETRIED = "the upload that failed was made again"
_EVERY = "holds every signed file once, unaltered"
FILES = f"{_EVERY} of ssign 155"
_ANSWERS = "done/ holds every answer that brought news, once"
_BROWSERS = "done/ holds every browser that came back, once"
_STORED = f"the end of {_JOB} was confirmed after its file was stored"

ALTERED: list[tuple[str, Callable[[Facts], Facts]]] = [
    ("every callback was sent once and answered as it should be", _answered_otherwise),
    ("the database knows these documents", lambda f: replace(f, documents=f.documents[1:])),
    ("ssign 155 is completed", lambda f: _with_document(f, 0, status=DocumentStatus.PENDING)),
    ("the history of ssign 156 is right", _history_otherwise),
    ("nothing is owed for ssign 155", _still_owed),
    ("the provider serves the signed files of ssign 161", _served_less),
    (f"{SMARTSHARE} {FILES}", lambda f: altered(f, SMARTSHARE)),
    (f"{SMARTSHARE} {FILES}", lambda f: _twice(f, SMARTSHARE)),
    (f"{ARCHIVE} {FILES}", lambda f: altered(f, ARCHIVE)),
    (f"{ARCHIVE} {FILES}", lambda f: _twice(f, ARCHIVE)),
    (f"{SMARTSHARE} holds no file of ssign 158", _delivered_unasked),
    (
        "the workflow of ssign 155 was moved once",
        lambda f: replace(f, advanced=(*f.advanced, ("ssign", "155"))),
    ),
    (
        "the workflow of ssign 158 was moved never",
        lambda f: replace(f, advanced=(*f.advanced, ("ssign", "158"))),
    ),
    ("no fetched file was left behind", lambda f: replace(f, left=("data/files/x",))),
    ("spool/ is empty", lambda f: _lying(f, Folder.SPOOL)),
    ("deferred/ is empty", lambda f: _lying(f, Folder.DEFERRED)),
    ("quarantine/ is empty", lambda f: _lying(f, Folder.QUARANTINE)),
    ("the browser that came back was sent on", _browser_refused),
    (f"the callbacks about {_SIGNED} are recorded", lambda f: _told_otherwise(f, _SIGNED, "callback", "x")),
    (f"asking told this of {_LEFT}", lambda f: _told_otherwise(f, _LEFT, "poll", "x")),
    (f"asking told this of {_SIGNED}", lambda f: _told_otherwise(f, _SIGNED, "poll", "x")),
    (f"asking told this of {_SILENT}", lambda f: _with_events(f, _SILENT, ())),
    (f"asking told this of {_JOB}", lambda f: _told_otherwise(f, _JOB, "poll", "FAILED")),
    (f"the course of {_TOLD} is right", lambda f: _with_events(f, _TOLD, _events(f, _TOLD)[-1:])),
    (f"each change of {_SIGNED} counts once", _counted_twice),
    (f"{_LEFT} is cancelled", lambda f: _with_document(f, _place(f, _LEFT), status="pending")),
    (f"every update of {_JOB} was confirmed once", lambda f: replace(f, confirmed=f.confirmed[1:])),
    (f"every update of {_JOB} was confirmed once", lambda f: replace(f, confirmed=f.confirmed * 2)),
    (_STORED, lambda f: _confirmed(f, confirmed_at=_EARLY)),
    (_STORED, lambda f: _confirmed(f, stored_at=None)),
    (_STORED, lambda f: replace(f, confirmed=())),
    ("every call to arqsign was booked", lambda f: _quota(f, booked=0)),
    ("the calls to arqsign are within its quota", lambda f: _quota(f, limit=0)),
    (f"{ARCHIVE} {_EVERY} of {_SIGNED}", lambda f: altered(f, ARCHIVE, "8a84738a")),
    (f"{SMARTSHARE} {_EVERY} of {_JOB}", lambda f: altered(f, SMARTSHARE, "12087")),
    (_ANSWERS, lambda f: _lying(f, Folder.DONE, "poll")),
    (_ANSWERS, lambda f: _one_less(f, Folder.DONE, "poll")),
    (_BROWSERS, lambda f: _lying(f, Folder.DONE, "return")),
    (_BROWSERS, lambda f: _one_less(f, Folder.DONE, "return")),
    (_DONE, lambda f: _lying(f, Folder.DONE)),
    (_DONE, lambda f: _one_less(f, Folder.DONE)),
    (_REFUSED, lambda f: _lying(f, Folder.REFUSED)),
    (_REFUSED, lambda f: _one_less(f, Folder.REFUSED)),
    (_WAITED, lambda f: replace(f, waited=())),
    (_WAITED, lambda f: replace(f, waited=(replace(f.waited[0], reason=""),))),
    ("SmartShare was made to fail once", lambda f: replace(f, storms=())),
    (_RETRIED, lambda f: replace(f, retries=())),
    ("no secret in any file, no personal number in a log", lambda f: replace(f, exposed=("data/x",))),
    ("both tiers ran to the end and stopped when asked", lambda f: replace(f, complaints=("killed",))),
]
