"""Keeps child processes running until told to stop, and starts those again that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from signspool.output import count_text

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DiesAtOnceError(Exception):
    """A child died right after its start, again and again; the message names it."""


@dataclass(frozen=True, slots=True)
class Child:
    """A command of ours to be kept running.

    `pass_fds` are file descriptors that it inherits. What it says goes to our own output, or to the end of
    the file `log`.
    """

    name: str
    arguments: Sequence[str]
    pass_fds: tuple[int, ...] = ()
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Runs children side by side.

    A child that ends within `at_once_seconds` of its start, `at_once_limit` times in a row, ends them all.
    Those that do not stop within `grace_seconds` are killed. `tell` is given what people should know.
    """

    children: Sequence[Child]
    environ: Mapping[str, str]
    grace_seconds: float
    tell: Callable[[str], None]
    at_once_seconds: float = 20.0
    at_once_limit: int = 3
    pause_seconds: float = 1.0
    on_stop: Callable[[], None] = lambda: None
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Keep the children running until SIGINT, SIGTERM, SIGHUP or `stop`; then stop them.

        Raises:
            DiesAtOnceError: one cannot be kept running; all others are stopped.
        """
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop.set)
        watches = [asyncio.create_task(self._keep(child)) for child in self.children]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._stop.set()
        await asyncio.gather(*watches, return_exceptions=True)
        for watch in done:
            watch.result()

    def stop(self) -> None:
        """Have `run` stop the children and return."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the children are being stopped, or are stopped already."""
        return self._stop.is_set()

    async def _keep(self, child: Child) -> None:
        deaths_at_once = 0
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            started = loop.time()
            process = await self._start(child)
            code = await self._wait(child, process)
            if self._stop.is_set():
                return
            at_once = loop.time() - started < self.at_once_seconds
            deaths_at_once = deaths_at_once + 1 if at_once else 0
            if deaths_at_once >= self.at_once_limit:
                raise DiesAtOnceError(
                    f"the {child.name} died {count_text(deaths_at_once, 'time')} right after its start "
                    f"({_ending(code)}); "
                    "what it said stands above"
                )
            self.tell(
                f"the {child.name} died ({_ending(code)}): starting it again in {self.pause_seconds:g} s"
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pause_seconds):
                    await self._stop.wait()

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        with contextlib.ExitStack() as files:
            log = files.enter_context(child.log.open("ab")) if child.log is not None else None
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "signspool.child",
                str(os.getpid()),
                *child.arguments,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=child.pass_fds,
                # A Ctrl-C of the terminal comes to us alone, and the children are told once.
                start_new_session=True,
            )

    async def _wait(self, child: Child, process: asyncio.subprocess.Process) -> int:
        """Wait for a child's end, or for our own and then bring it about."""
        ended = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ended.done():
            self.on_stop()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait((ended,), timeout=self.grace_seconds)
            if not ended.done():
                self.tell(f"the {child.name} did not stop within {self.grace_seconds:g} s: killing it")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return await ended


def _ending(code: int) -> str:
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
