"""What a tier tells the service manager that started it, by the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()

_PATIENCE_SECONDS = 2.0
"""For a service manager that is busy, and only with what it must not miss."""

_BEATS_IN_A_WATCH = 3
"""One of three signs of life may come late or be lost."""


class Notifier:
    """Tells the service manager how this process is; tells nobody where there is none.

    What cannot be told is no reason to stop working: it is logged, once. Safe to use from several threads.
    """

    def __init__(
        self,
        address: str = "",
        *,
        watchdog_seconds: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if address else None
        """Silence after which the service manager starts us anew; None when it does not watch."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beat_at = -float("inf")
        self._status = ""
        self._is_deaf = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """As NOTIFY_SOCKET and WATCHDOG_USEC say, unless they are meant for another process."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watches = is_ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, watchdog_seconds=int(microseconds) / 1e6 if watches else None)

    @property
    def beat_seconds(self) -> float | None:
        """How often `alive` has to be called at least; None when nobody watches."""
        return None if self.watchdog_seconds is None else self.watchdog_seconds / _BEATS_IN_A_WATCH

    def ready(self) -> None:
        """The start, or a reload, is over."""
        self._send("READY=1", _PATIENCE_SECONDS)

    def reloading(self) -> None:
        """A reload begins; `ready` has to follow."""
        began_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={began_at}", _PATIENCE_SECONDS)

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1", _PATIENCE_SECONDS)

    def status(self, text: str) -> None:
        """One line for people, as `systemctl status` shows it."""
        line = " ".join(text.split())
        with self._lock:
            is_news, self._status = line != self._status, line
        if is_news:
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Work has gone on. Costs nothing much however often it is called."""
        beat_seconds = self.beat_seconds
        if beat_seconds is None:
            return
        now = self._monotonic()
        with self._lock:
            # Seldom, but never so that the next call, due within `beat_seconds`, would be the first in time.
            if now - self._beat_at < beat_seconds / 4:
                return
            self._beat_at = now
        self._send("WATCHDOG=1")

    def _send(self, words: str, patience_seconds: float = 0.0) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A service manager that does not read must not hold us up for long.
                sender.settimeout(patience_seconds)
                sender.sendto(words.encode(), self._address)
        except OSError as error:
            if not self._is_deaf:
                log.warning("notify.failed", error=str(error))
            self._is_deaf = True
        else:
            self._is_deaf = False
