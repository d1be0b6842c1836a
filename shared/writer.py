"""The thread through which the processor puts files into the spool, many at a time: the group commit.

Files that are handed over while a group is being synced make up the next group; a lone one waits for nobody.
Nobody is told before the whole of a group is safe. The door, which is busier, has a process for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

from shared.commit import GroupCommit, NewFile, remove_leftovers
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool

Tell = Callable[[list[NewFile]], None]
Order = tuple[list[NewFile], Tell]
"""Files that were handed over together, and who is to hear of them once they are safe or have failed."""


class SpoolWriter:
    """The one thread through which a process puts files into its spool."""

    def __init__(self, spool: Spool, *, durable: bool = True) -> None:
        self._spool = spool
        self._durable = durable
        self._orders: list[Order] = []
        self._wake = threading.Condition()
        self._closing = False
        self._commit = GroupCommit(spool)
        self._desk: _Desk | None = None
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Begin; clears away what writers that died have left under `.tmp/`."""
        remove_leftovers(self._spool.temporary)
        self._thread.start()

    @property
    def thread_id(self) -> int:
        """The kernel's number of the thread, 0 before the start: what `top -H` and tracers show."""
        return self._thread.native_id or 0

    def close(self) -> None:
        """Write what was handed over, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._commit.close()

    async def write(self, folder: Folder, entry: Entry, data: bytes, *, durable: bool = True) -> None:
        """Put one file into its day folder; returns when it is safe.

        Raises:
            SpoolUnavailableError: it could not be stored, and nothing of it is left.
        """
        loop = asyncio.get_running_loop()
        if self._desk is None or self._desk.loop is not loop:
            self._desk = _Desk(loop, self.hand_over)
        await self._desk.ask(NewFile(folder, entry, data, durable and self._durable))

    def hand_over(self, files: list[NewFile], tell: Tell) -> None:
        """Have files written; `tell` is called once, on the writer's thread, when they are safe or failed.

        Raises:
            SpoolUnavailableError: the writer is closed.
        """
        with self._wake:
            if self._closing:
                raise SpoolUnavailableError("the service is stopping")
            self._orders.append((files, tell))
            self._wake.notify()

    # On the writer's thread

    def _run(self) -> None:
        while orders := self._take():
            files = [file for handed_over, _ in orders for file in handed_over]
            self._commit.commit(files)
            for handed_over, tell in orders:
                tell(handed_over)

    def _take(self) -> list[Order]:
        """Everything handed over so far, at least one; empty when it is time to stop."""
        with self._wake:
            while not self._orders and not self._closing:
                self._wake.wait()
            orders, self._orders = self._orders, []
            return orders


class _Desk:
    """Where the requests of one event loop meet the writer's thread: orders go out, and answers come in,
    together for each turn of the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, hand_over: Callable[[list[NewFile], Tell], None]
    ) -> None:
        self.loop = loop
        self._hand_over = hand_over
        self._asked: list[NewFile] = []
        self._waiting: list[asyncio.Future[None]] = []

    def ask(self, file: NewFile) -> asyncio.Future[None]:
        """Have a file written; the future is done when it is safe, or holds the error."""
        done: asyncio.Future[None] = self.loop.create_future()
        if not self._asked:
            # After all that is ready now has run, and before the loop waits for anything.
            self.loop.call_soon(self._hand_over_all)
        self._asked.append(file)
        self._waiting.append(done)
        return done

    def _hand_over_all(self) -> None:
        files, self._asked = self._asked, []
        waiting, self._waiting = self._waiting, []

        def tell(files: list[NewFile]) -> None:
            # A loop that is closed already has nobody left who waits for the answer.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(_settle, files, waiting)

        try:
            self._hand_over(files, tell)
        except SpoolUnavailableError as error:
            for file in files:
                file.error = error
            _settle(files, waiting)


def _settle(files: Sequence[NewFile], waiting: Sequence[asyncio.Future[None]]) -> None:
    """Tell those who wait for files how these fared, in the order in which they were asked for."""
    for file, done in zip(files, waiting, strict=True):
        if done.done():
            continue  # The request was given up meanwhile; the file is then one repeat more.
        if file.error is None:
            done.set_result(None)
        else:
            done.set_exception(file.error)
