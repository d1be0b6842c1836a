"""How a door has callbacks brought to disk: by a process of its own, which shares no interpreter with it.

`callback_api.writer_process` is what runs there. Should it end, it is started again; what it had in hand is
refused, so that the senders come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from callback_api.orders import packed_order, read_answer
from shared.commit import NewFile
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool

OnGroup = Callable[[Sequence[NewFile], float], None]

RESTART_SECONDS = 1.0
"""Shortest time between two starts of the process."""

FINISH_SECONDS = 5.0
"""Time for a process to end that was asked to while nobody waits for what it does."""

_LOOK_SECONDS = 0.01
_TO_STOP = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_NO_ERRORS: Mapping[int, str] = {}
_ENDED = "the writer's process has ended"
_STOPPING = "the service is stopping"
_log = structlog.get_logger()


class _Order(NamedTuple):
    """Files that were sent together, and who waits for each of them; one without files waits for a sign of
    life."""

    files: list[NewFile]
    waiting: list[asyncio.Future[None]]


class Writer:
    """Puts files into the spool, for one event loop.

    `on_group` is told of each group that came to disk or failed, and how many seconds it took.
    """

    def __init__(self, spool: Spool, *, durable: bool = True, on_group: OnGroup | None = None) -> None:
        self._spool = spool
        self._durable = durable
        self._on_group = on_group
        self._asked = _Order([], [])
        self._link: _Link | None = None
        self._dead: _Link | None = None
        self._restart: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._is_closed = False
        self.trouble: str | None = None
        """Why no process can be started in place of one that ended; None when all is well."""

    @property
    def process_id(self) -> int:
        """The process that writes, 0 while there is none."""
        return 0 if self._link is None else self._link.process.pid

    async def start(self) -> None:
        """Begin; what writers that died have left under `.tmp/` is cleared away before this returns.

        Raises:
            SpoolUnavailableError: the process does not start.
        """
        self._link = await self._opened()
        try:
            await self.echo()
        except SpoolUnavailableError:
            # It was killed at its birth; the one that is started in its place shall do better.
            assert self._restart is not None
            await asyncio.wait([self._restart])
            await self.echo()

    async def write(self, folder: Folder, entry: Entry, data: bytes, *, durable: bool = True) -> None:
        """Put one file into its day folder; returns when it is safe.

        Raises:
            SpoolUnavailableError: it could not be stored. Nothing of it is left, unless the process died in
                the middle: then it may be there, as one repeat more.
        """
        await self._ask(NewFile(folder, entry, data, durable and self._durable))

    async def echo(self) -> None:
        """Return when the process comes by between two groups: a sign that it works.

        Raises:
            SpoolUnavailableError: it has ended, and there is no other yet.
        """
        if self._link is None:
            raise SpoolUnavailableError(self.trouble or _ENDED)
        self._send_asked()
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._link.send(_Order([], [heard]))
        await heard

    async def close(self) -> None:
        """Write what was handed over, then stop."""
        self._send_asked()
        self._is_closed = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        if self._dead is not None:
            await self._dead.exit_code()
        if self._link is None:
            self._fail_asked(_STOPPING)
        else:
            await self._link.finish()

    async def _opened(self) -> _Link:
        self._started_at = asyncio.get_running_loop().time()
        return await _Link.opened(self._spool, self._on_group, self._on_end)

    def _ask(self, file: NewFile) -> asyncio.Future[None]:
        """Have a file written; the future is done when it is safe, or holds the error."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        asked = self._asked
        if not asked.files:
            # After all that is ready now has run, and before the loop waits for anything.
            loop.call_soon(self._send_asked)
        asked.files.append(file)
        asked.waiting.append(done)
        return done

    def _send_asked(self) -> None:
        if not self._asked.files:
            return
        if self._is_closed:
            self._fail_asked(_STOPPING)
        elif self._link is not None:
            order, self._asked = self._asked, _Order([], [])
            self._link.send(order)
        # While the process is being started again, requests wait for it.

    def _fail_asked(self, reason: str) -> None:
        order, self._asked = self._asked, _Order([], [])
        _settle(order, reason=reason)

    # The end of the process, and another

    def _on_end(self, link: _Link) -> None:
        """The process has ended, or is out of reach, although it was not asked to."""
        self._link, self._dead = None, link
        self._restart = asyncio.get_running_loop().create_task(self._start_again(link))

    async def _start_again(self, dead: _Link) -> None:
        code = await dead.exit_code()
        _log.error("writer.ended", exit_code=code, effect="what it had in hand is refused; it starts again")
        loop = asyncio.get_running_loop()
        while True:
            # Requests wait meanwhile. One that dies at once shall not be started all the time.
            await asyncio.sleep(self._started_at + RESTART_SECONDS - loop.time())
            try:
                self._link = await self._opened()
            except SpoolUnavailableError as error:
                _log.error("writer.not_started", reason=str(error), again_in_seconds=RESTART_SECONDS)
                self.trouble = str(error)
                self._fail_asked(self.trouble)
            else:
                self.trouble = None
                _log.info("writer.started_again", process=self.process_id)
                self._send_asked()
                return


class _Link(asyncio.Protocol):
    """One process, and the connection to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], on_group: OnGroup | None, on_end: Callable[[_Link], None]
    ) -> None:
        self.process = process
        self._on_group = on_group
        self._on_end = on_end
        self._sent: dict[int, _Order] = {}
        self._numbers = itertools.count(1)
        self._line = b""
        self._is_finishing = False
        self._ended = asyncio.Event()

    @classmethod
    async def opened(cls, spool: Spool, on_group: OnGroup | None, on_end: Callable[[_Link], None]) -> _Link:
        """Start a process.

        Raises:
            SpoolUnavailableError: it cannot be started.
        """
        loop = asyncio.get_running_loop()
        try:
            ours, theirs = socket.socketpair()
            with theirs, contextlib.ExitStack() as stack:
                stack.enter_context(ours)
                # Not on the loop: the disk that Python lies on may hang, too.
                process = await asyncio.to_thread(_process, spool, theirs)
                _, link = await loop.create_unix_connection(lambda: cls(process, on_group, on_end), sock=ours)
                stack.pop_all()
        except (OSError, RuntimeError) as error:
            # The second says that there can be no more threads.
            raise SpoolUnavailableError(f"the writer's process cannot be started: {error}") from error
        return link

    def send(self, order: _Order) -> None:
        """Send an order; those who wait for it are told when it is carried out, or has failed."""
        if self._ended.is_set():
            _settle(order, reason=_ENDED)
            return
        number = next(self._numbers)
        try:
            packed = packed_order(number, order.files)
        except Exception as error:  # noqa: BLE001  (whoever waits must hear of it, and others be served)
            _log.error("writer.not_ordered", files=len(order.files), exc_info=error)
            _settle(order, reason="the callback cannot be handed to the writer's process")
            return
        self._sent[number] = order
        self._transport.write(packed)

    async def finish(self) -> None:
        """Have it carry out what it was sent, and end. One that hangs is left to itself once nobody waits."""
        self._is_finishing = True
        if not self._ended.is_set():
            self._transport.write_eof()
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await self._ended.wait()
            if not self._is_awaited():
                self.process.kill()
                break
        if await self.exit_code() is None:
            _log.error("writer.hangs", process=self.process.pid, reason="its disk does not answer")

    async def exit_code(self) -> int | None:
        """Its exit code, which is there soon after its end; None when it does not end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while self.process.poll() is None:  # noqa: ASYNC110  (nobody tells of a process' end)
                    await asyncio.sleep(_LOOK_SECONDS)
        return self.process.returncode

    def _is_awaited(self) -> bool:
        return any(not done.done() for order in self._sent.values() for done in order.waiting)

    # Called by the event loop

    def connection_made(self, transport: Any) -> None:
        """The connection stands."""
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        """Groups were brought to disk, or have failed."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_answer(line)

    def connection_lost(self, _error: Exception | None) -> None:
        """The process has ended."""
        self._ended.set()
        for order in self._sent.values():
            _settle(order, reason=_ENDED)
        if not self._is_finishing:
            # Should it have closed the connection alone, it would never be of use again.
            self.process.kill()
            self._on_end(self)

    def _take_answer(self, line: bytes) -> None:
        answer = read_answer(line)
        orders = [self._sent.pop(number) for number in answer.numbers]
        first = 0
        for order in orders:
            _settle(order, answer.errors, first)
            first += len(order.files)
        if first and self._on_group is not None:
            self._on_group([file for order in orders for file in order.files], answer.seconds)


def _settle(
    order: _Order, errors: Mapping[int, str] = _NO_ERRORS, first: int = 0, *, reason: str = ""
) -> None:
    """Tell those who wait for an order how it fared: with errors by place, counted from `first`, or all with
    one reason."""
    for place, done in enumerate(order.waiting):
        failure = reason or errors.get(first + place)
        if failure and order.files:
            order.files[place].error = SpoolUnavailableError(failure)
        if done.done():
            continue  # The request was given up meanwhile; the file is then one repeat more.
        if failure:
            done.set_exception(SpoolUnavailableError(failure))
        else:
            done.set_result(None)


def _process(spool: Spool, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start the process. Signals to stop are for the door from its birth on: what is blocked is inherited."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
    try:
        return subprocess.Popen(  # noqa: S603  (our own program)
            [sys.executable, "-P", "-m", "callback_api.writer_process", os.fspath(spool.root)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            # It finds the same program as this process, wherever that came from.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
