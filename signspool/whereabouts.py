"""Where the entries of a document lie now, for whoever asks what became of a callback."""

from __future__ import annotations

from processor.daylists import ERASED_SUFFIX, DayLists
from shared.spool import Entry, Folder, Spool


def whereabouts(spool: Spool, entries: list[str]) -> dict[str, str]:
    """Where each entry, given as `day/name`, lies: a folder, or what became of its file.

    Raises:
        SpoolUnavailableError: `done/` cannot be listed.
    """
    expired = frozenset(DayLists(spool).expired())
    return {entry: _lies(spool, entry, expired) for entry in entries}


def _lies(spool: Spool, entry: str, expired: frozenset[str]) -> str:
    day, _, name = entry.partition("/")
    for folder in Folder:
        if spool.path(folder, Entry(day, name)).exists():
            return f"{folder}/"
    if (spool.folder(Folder.DONE) / day / (name.removesuffix(".json") + ERASED_SUFFIX)).exists():
        return "erased on request"
    if day in expired:
        return "expired with its day"
    return "not on this machine, or deleted"
