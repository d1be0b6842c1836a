"""What lies in `spool/` and is no entry, so that nobody would ever read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from shared.names import day_of
from shared.spool import REASON_SUFFIX, Folder, Spool, unavailable

_NAMED = 3


def strays(spool: Spool) -> tuple[int, list[str]]:
    """How many there are, and the first three of them, as paths under the root.

    What begins with a dot is left out: other programs call files so while they write them.

    Raises:
        SpoolUnavailableError: a folder cannot be listed.
    """
    found = _strays(spool)
    named = list(islice(found, _NAMED))
    return len(named) + sum(1 for _ in found), named


def _strays(spool: Spool) -> Iterator[str]:
    for day in ("", *spool.days(Folder.SPOOL)):
        path = spool.folder(Folder.SPOOL) / day
        # A folder that is gone holds none.
        with suppress(FileNotFoundError), unavailable(f"list {path}"), os.scandir(path) as found:
            for item in found:
                if not item.name.startswith(".") and not _is_right(item, is_in_day=bool(day)):
                    slash = "/" if item.is_dir(follow_symlinks=False) else ""
                    yield "/".join(filter(None, (Folder.SPOOL, day, item.name))) + slash


def _is_right(item: os.DirEntry[str], *, is_in_day: bool) -> bool:
    """Whether it is an entry, or a day folder where one belongs."""
    if not is_in_day and day_of(item.name) and item.is_dir():
        return True
    is_named_so = item.name.endswith(".json") and not item.name.endswith(REASON_SUFFIX)
    return is_named_so and not item.is_dir(follow_symlinks=False)
