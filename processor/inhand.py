"""What the daemon has in its hands, noted before the work, so that an entry which kills it is found out.

The note is one small file under the spool's root. It need not survive a power cut, only the process: after a
power cut nobody is to blame.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path

from shared.spool import Entry, unavailable

KILLS_BEFORE_QUARANTINE = 3


class InHand:
    """Names of entries that are being worked on, and how often each was there when the process died."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths: dict[Entry, int] = {}

    def after_start(self) -> None:
        """Charge a death to every entry that the process before us held when it ended.

        Raises:
            SpoolUnavailableError: the note cannot be read.
        """
        with unavailable("read what was in hand"):
            try:
                text = self._path.read_bytes().decode(errors="replace")
            except FileNotFoundError:
                return
        for entry, deaths in _noted(text):
            self._deaths[entry] = deaths + 1

    @property
    def suspects(self) -> list[Entry]:
        """Entries that were in hand at a death, not often enough for quarantine; to be taken alone."""
        return [entry for entry, deaths in self._deaths.items() if deaths < KILLS_BEFORE_QUARANTINE]

    @property
    def killers(self) -> list[Entry]:
        """Entries that were in hand at every one of too many deaths."""
        return [entry for entry, deaths in self._deaths.items() if deaths >= KILLS_BEFORE_QUARANTINE]

    def take(self, entries: Iterable[Entry]) -> None:
        """Note these, and the counts of those that are still suspected, before working on them.

        Raises:
            SpoolUnavailableError: the note cannot be written.
        """
        taken = {entry: self._deaths.get(entry, 0) for entry in entries}
        self._write([[entry.day, entry.name, deaths] for entry, deaths in taken.items()])

    def put_down(self, entry: Entry) -> None:
        """An entry is dealt with and no longer suspected."""
        self._deaths.pop(entry, None)

    def nothing(self) -> None:
        """Nothing is in hand any more.

        Raises:
            SpoolUnavailableError: the note cannot be written.
        """
        self._write([[entry.day, entry.name, deaths - 1] for entry, deaths in self._deaths.items()])

    def _write(self, rows: list[list[object]]) -> None:
        content = json.dumps(rows).encode()
        # Written over, since to replace a file makes some file systems write to the disk at once.
        with unavailable("note what is in hand", gone_too=True):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                if os.pwrite(descriptor, content, 0) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.ftruncate(descriptor, len(content))
            finally:
                os.close(descriptor)


def _noted(text: str) -> list[tuple[Entry, int]]:
    """What a note says; nothing for a torn one: its process died before any of the work that it announces."""
    try:
        # What stands behind the value is the rest of an older note.
        rows, _ = json.JSONDecoder().raw_decode(text)
        return [(Entry(str(day), str(name)), int(deaths)) for day, name, deaths in rows]
    except (ValueError, TypeError):
        return []
