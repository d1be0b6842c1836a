"""Wake-ups from the file system. Says "look", never "which": the listing is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import awatch

log = structlog.get_logger()

# Gathers the events of a burst without holding up a lone one; in milliseconds.
_DEBOUNCE_MS = 10
_STEP_MS = 2
_RETRY_SECONDS = 5.0


async def watch(folder: Path, look: Callable[[], None], stop: asyncio.Event) -> None:
    """Call `look` whenever something changes below a folder, until told to stop.

    A watch that cannot be had (no handles left, folder gone) is tried again every few seconds; until then the
    timed sweep does its work.
    """
    healthy = True
    while not stop.is_set():
        try:
            async for _ in awatch(
                folder,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                watch_filter=None,
                stop_event=stop,
            ):
                healthy = True
                look()
        except (OSError, RuntimeError) as error:
            if healthy:
                log.warning("watch.lost", error=str(error), until_then="the timed sweep looks")
            healthy = False
        if stop.is_set():
            return
        look()
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
