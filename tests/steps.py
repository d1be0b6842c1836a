"""The named steps of the daemon: places between two marks, at each of which a test lets it die.

A place is a function of the program and whether it is entered or left, the nth time in one life of a process
that handles one envelope. Nothing in the program knows of this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Held = Literal["", "deliver", "advance"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place at which a process dies."""

    module: str
    name: str
    when: Literal["enter", "leave"]
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.module}:{self.name} ({self.when} {self.nth})"


@dataclass(frozen=True, slots=True)
class Step:
    """Deaths in turn, one for each life, and the task that is held for a person afterwards because nobody can
    know whether it had its effect."""

    what: str
    deaths: tuple[Point, ...]
    held: Held = ""
    beside: bool = False
    """Whether another lane may be at work just then, with an upload or a step that may be held too."""
    databases: tuple[str, ...] = ()
    """On which it is tried every time, and not in the long form alone."""


def _step(what: str, *deaths: Point, held: Held = "", beside: bool = False, every_time: str = "") -> Step:
    return Step(what, deaths, held, beside, tuple(every_time.split()))


_IN_HAND = "processor.inhand"
_OUTBOX = "processor.outbox"
_SETTLE = "processor.settle"
_WORK = "processor.work"
_SPOOL = "shared.spool"
_FOLDER = "processor.destinations.folder"
_SMARTSHARE = "processor.destinations.smartshare"
_WIRE = ("httpcore._async.http11", "AsyncHTTP11Connection._receive_response_headers")
"""Entered when a request has been sent whole; then its answer is awaited."""

_MOVED = Point(_SPOOL, "Spool.move", "leave")
_STEP_SENT = Point(*_WIRE, "enter", 4)

STEPS = (
    # Recording
    _step("before the note of what is in hand", Point(_IN_HAND, "InHand.take", "enter")),
    _step("while the note is written", Point(_IN_HAND, "InHand._write", "enter")),
    _step("noted, not read yet", Point(_IN_HAND, "InHand.take", "leave")),
    _step("read, not recorded", Point("processor.reading", "Reader.read", "leave")),
    _step("document made, event not", Point("processor.recording", "_lock_documents", "leave")),
    _step(
        "rows written, not committed",
        Point("processor.recording", "record_batch", "leave"),
        every_time="postgresql",
    ),
    _step(
        "committed, file not moved",
        Point("processor.pipeline", "Pipeline._move_on", "enter"),
        every_time="sqlite postgresql",
    ),
    _step("before the rename to deferred", Point(_SPOOL, "Spool.move", "enter")),
    _step("renamed to deferred", _MOVED),
    _step("before the note is cleared", Point(_IN_HAND, "InHand.nothing", "enter")),
    _step("the note is cleared", Point(_IN_HAND, "InHand.nothing", "leave")),
    # Starting again
    _step("starting, deaths are counted", _MOVED, Point(_IN_HAND, "InHand.after_start", "leave")),
    _step("starting, leases not given back yet", _MOVED, Point(_OUTBOX, "release_leases", "leave")),
    _step("started, everything was looked through", _MOVED, Point(_SETTLE, "Settler.scan", "leave")),
    # Fetching the signed file
    _step("leased", Point(_WORK, "Worker.do", "enter")),
    _step("before the provider is asked", Point(_WORK, "Worker._fetch", "enter")),
    _step("provider asked, no answer yet", Point(*_WIRE, "enter")),
    _step("the file begins to arrive", Point("processor.landing", "LandedFile.write", "enter")),
    _step("the file has landed", Point("processor.landing", "Landing.keep", "enter")),
    _step("in its place, landing not cleared", Point("processor.landing", "Landing.keep", "leave")),
    _step(
        "in its place, not noted", Point("processor.download", "fetch_files", "leave"), every_time="sqlite"
    ),
    _step("noted, not committed", Point("processor.owed", "enqueue_deliveries", "leave")),
    _step("fetch committed", Point(_SETTLE, "Settler.settle_event", "enter")),
    # Delivering to a destination that can tell a repeat
    _step("before a delivery", Point(_WORK, "Worker._deliver", "enter"), beside=True),
    _step("copied, without its name", Point(_FOLDER, "FolderDestination._place", "enter"), beside=True),
    _step(
        "described, without its name",
        Point(_FOLDER, "FolderDestination._describe", "leave"),
        beside=True,
    ),
    _step("in the archive, not synced", Point(_FOLDER, "_appear", "leave", 2), beside=True),
    _step(
        "in the archive, not marked",
        Point(_FOLDER, "FolderDestination.deliver", "leave"),
        every_time="sqlite",
        beside=True,
    ),
    # Delivering to one that cannot
    _step("logging in", Point(*_WIRE, "enter", 2)),
    _step("sending noted, not committed", Point(_OUTBOX, "mark_sent", "leave")),
    _step(
        "sending noted, nothing sent",
        Point(_SMARTSHARE, "SmartshareDestination._send", "enter", 2),
        held="deliver",
    ),
    _step("upload sent, no answer yet", Point(*_WIRE, "enter", 3), held="deliver"),
    _step("upload answered", Point(_SMARTSHARE, "SmartshareDestination._judged", "leave", 2), held="deliver"),
    _step(
        "uploaded, not marked",
        Point(_SMARTSHARE, "SmartshareDestination.deliver", "leave"),
        held="deliver",
        every_time="sqlite",
    ),
    _step("a delivery committed", Point(_SETTLE, "Settler.settle_event", "enter", 2), beside=True),
    _step(
        "the other delivery committed",
        Point(_SETTLE, "Settler.settle_event", "enter", 3),
        beside=True,
    ),
    _step(
        "delivered everywhere, our copy not deleted",
        Point(_WORK, "Worker.forget_files", "enter"),
        beside=True,
    ),
    _step("our copy deleted", Point(_WORK, "Worker.forget_files", "leave"), beside=True),
    # The workflow step
    _step("before the step", Point(_WORK, "Worker._advance", "enter")),
    _step("step noted, not committed", Point(_OUTBOX, "mark_sent", "leave", 2)),
    _step(
        "step noted, nothing sent",
        Point(_SMARTSHARE, "SmartshareDestination._send", "enter", 3),
        held="advance",
    ),
    _step("step sent, no answer yet", _STEP_SENT, held="advance"),
    _step(
        "step answered, not marked",
        Point(_SMARTSHARE, "SmartshareDestination.advance", "leave"),
        held="advance",
    ),
    _step("step committed", Point(_SETTLE, "Settler.settle_event", "enter", 4)),
    # Settling
    _step("before the rename to done", Point(_SETTLE, "finish_file", "enter")),
    _step("renamed to done, not noted", Point(_SETTLE, "finish_file", "leave"), every_time="sqlite"),
    _step("settled", Point(_SETTLE, "Settler._mark_settled", "leave")),
    # Putting aside what needs a person
    _step("before it is held", _STEP_SENT, Point(_OUTBOX, "hold", "enter"), held="advance"),
    _step("held, not put aside", _STEP_SENT, Point(_SPOOL, "Spool.quarantine", "enter"), held="advance"),
    _step("put aside, without its reason", _STEP_SENT, _MOVED, held="advance", every_time="sqlite"),
    _step("put aside, not noted", _STEP_SENT, Point(_SPOOL, "Spool.quarantine", "leave"), held="advance"),
)
