"""Looks once a second whether the spool can take a callback, so that no request has to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

import structlog

from shared.errors import SpoolUnavailableError
from shared.spool import Folder, Spool

MIN_FREE_INODES = 1000

CANNOT_STORE = "with these settings nothing could be stored"
"""Why settings are refused that would close a door which is open."""

_log = structlog.get_logger()


class Guard:
    """Knows why nothing can be stored now, or that something can.

    `trouble` says what else than the spool is in the way; it is asked on the event loop.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        min_free_bytes: int,
        trouble: Callable[[], str | None] = lambda: None,
        interval_seconds: float = 1.0,
    ) -> None:
        self._spool = spool
        self._trouble = trouble
        self._min_free_bytes = min_free_bytes
        self._interval_seconds = interval_seconds
        self._task: asyncio.Task[None] | None = None
        self.reason: str | None = "the spool has not been looked at yet"
        """Why nothing can be stored now, without paths and changing figures; None when all is well."""

    async def start(self) -> None:
        """Look once, then go on looking in the background."""
        self._note(await asyncio.to_thread(self.look) or self._trouble())
        self._task = asyncio.create_task(self._watch(), name="guard")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look(self) -> str | None:
        """What stands in the way of storing a callback at this moment, or None."""
        try:
            self._spool.id()
            return self._lacking() or self._closed()
        except SpoolUnavailableError:
            return "the spool's marker file is missing or damaged: is its volume mounted?"
        except OSError as error:
            return f"the spool's file system does not answer: {error.strerror}"

    def _lacking(self) -> str | None:
        status = os.statvfs(self._spool.root)
        if status.f_bavail * status.f_frsize < self._min_free_bytes:
            return f"less than {self._min_free_bytes} bytes are free on the spool's file system"
        # A file system without a fixed number of inodes says 0.
        if status.f_files and status.f_favail < MIN_FREE_INODES:
            return f"fewer than {MIN_FREE_INODES} files can still be made on the spool's file system"
        return None

    def _closed(self) -> str | None:
        for path in (self._spool.temporary, self._spool.folder(Folder.SPOOL)):
            if not path.is_dir():
                return f"{path.name}/ is missing in the spool: make it with signspool check --init-spool"
            if not os.access(path, os.W_OK | os.X_OK):
                return f"{path.name}/ in the spool cannot be written"
        return None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                # Off the loop: a network file system that hangs would stop every request with it.
                reason = await asyncio.to_thread(self.look)
            except RuntimeError as error:
                # There can be no more threads now.
                reason = f"the spool cannot be looked at: {error}"
            self._note(reason or self._trouble())

    def _note(self, reason: str | None) -> None:
        if reason == self.reason:
            return
        self.reason = reason
        if reason is None:
            _log.info("spool.available")
        else:
            _log.error("spool.unavailable", reason=reason)
