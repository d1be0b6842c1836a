"""Wake-ups from the file system. A hint of what to take first; the listing is the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from processor.arrivals import Arrivals
from shared.errors import SpoolUnavailableError
from shared.names import day_of
from shared.spool import Entry, Folder, Spool, is_entry_name

log = structlog.get_logger()

# A lone event is passed on after two steps; those of a burst are gathered up to the debounce time. Both in
# milliseconds.
_DEBOUNCE_MS = 5
_STEP_MS = 2
_CHECK_FOLDERS_MS = 2_000

_Folders = dict[str, tuple[int, int]]
"""`spool/` and its day folders by absolute path, as they are told of: device and inode, which tell whether a
folder is still the same."""


async def watch(
    spool: Spool,
    arrivals: Arrivals,
    look: Callable[[], None],
    stop: asyncio.Event,
    *,
    retry_seconds: float = 5.0,
) -> None:
    """Note what arrives in `spool/`, and call `look` then, until told to stop.

    A watch that cannot be had (no handles left, folder gone) is tried again every few seconds; until then the
    timed sweep does its work.
    """
    healthy = True
    while not stop.is_set():
        try:
            await _watch_these(_folders(spool), spool, arrivals, look, stop)
        except (OSError, RuntimeError, SpoolUnavailableError) as error:
            if healthy:
                log.warning("watch.lost", error=str(error), until_then="the timed sweep looks")
            healthy = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_seconds):
                    await stop.wait()
        else:
            healthy = True


async def _watch_these(
    folders: _Folders, spool: Spool, arrivals: Arrivals, look: Callable[[], None], stop: asyncio.Event
) -> None:
    """Watch folders until `spool/` has others, or until told to stop.

    Each day folder has a watch of its own: a recursive one would look at every file when it starts, and could
    miss the first files of a folder that is made later.
    """

    def all_that_came_before() -> None:
        arrivals.missed_some()
        look()

    # Runs when the loop below first waits, with the watch set: nothing falls between it and the listing.
    asyncio.get_running_loop().call_soon(all_that_came_before)
    watching = awatch(
        *folders,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        # What is deleted was moved on, by ourselves as a rule.
        watch_filter=lambda change, path: change is not Change.deleted or path in folders,
        stop_event=stop,
        rust_timeout=_CHECK_FOLDERS_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    async with contextlib.aclosing(watching):
        async for changes in watching:
            paths = {path for _, path in changes}
            entries = [entry for path in paths if (entry := _entry_at(path, spool)) is not None]
            if entries:
                arrivals.add(entries)
                look()
            if not paths.isdisjoint(folders):
                # One was removed or made again, and its watch is gone with it.
                return
            # What else came may be a folder; and a volume may have been put over one without a word.
            if (len(entries) < len(paths) or not changes) and _folders(spool) != folders:
                return


def _top(spool: Spool) -> Path:
    # A root may be relative, as it is without settings; what happens in it is told by absolute paths.
    return spool.folder(Folder.SPOOL).absolute()


def _folders(spool: Spool) -> _Folders:
    top = _top(spool)
    found = {}
    for path in (top, *(top / day for day in spool.days(Folder.SPOOL))):
        status = path.stat()
        found[str(path)] = status.st_dev, status.st_ino
    return found


def _entry_at(path: str, spool: Spool) -> Entry | None:
    """The entry that a path below `spool/` is; None for anything else."""
    day, _, name = path.removeprefix(f"{_top(spool)}/").rpartition("/")
    if is_entry_name(name) and (not day or day_of(day)):
        return Entry(day, name)
    return None
