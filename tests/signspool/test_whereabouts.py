"""Where entries lie now: in a folder, or what became of their file."""

from __future__ import annotations

import threading

from processor.daylists import DayLists
from processor.erase import erase_entry
from processor.retention import Retention
from shared.record import parse_record
from shared.spool import Folder
from signspool.whereabouts import whereabouts
from tests.signspool.conftest import Place


def test_each_entry_is_found_where_it_lies_or_is_said_to_be_gone(place: Place) -> None:
    lying = {folder: place.callback("1", folder=folder) for folder in Folder}
    erased = place.callback("2", folder=Folder.DONE)
    data = place.spool.read(Folder.DONE, erased)
    erase_entry(place.spool, Folder.DONE, erased, data, parse_record(data))
    over = place.callback("3", folder=Folder.DONE, day="2020-01-01")
    assert DayLists(place.spool).make(threading.Event())
    Retention(place.spool, {Folder.DONE: 10**9 / 10}).drop(threading.Event())
    entries = [f"{entry.day}/{entry.name}" for entry in (*lying.values(), erased, over)]
    assert list(whereabouts(place.spool, [*entries, "2026-11-21/gone.json"]).values()) == [
        *(f"{folder}/" for folder in Folder),
        "erased on request",
        "expired with its day",
        "not on this machine, or deleted",
    ]
