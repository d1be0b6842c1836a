"""Slow looks at spool and database, each in a thread of its own and not too often.

Whoever asks is never held up for long: a disk or a database that hangs must not take the figures with it that
would tell of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from shared.errors import UnavailableError

T = TypeVar("T")

_MOST_OF_THE_TIME = 0.05
"""Share of its time that a look may take."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a look found. `at` is when it began, in seconds of the clock for measuring."""

    value: T
    at: float


class Look(Generic[T]):
    """Looks when somebody asks and the last time is longer ago than `keep_seconds`, or twenty times as long
    as a look takes."""

    def __init__(self, name: str, act: Callable[[], T], *, keep_seconds: float) -> None:
        self.name = name
        self._act = act
        self._keep_seconds = keep_seconds
        self._change = threading.Condition()
        self._is_wanted = False
        self._is_closing = False
        self._found: Found[T] | None = None
        self._next_at = 0.0
        self.error: Exception | None = None
        """Why the last look failed, None when it did not."""
        self._thread = threading.Thread(target=self._run, name=f"look-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the first look is made at once."""
        self._is_wanted = True
        self._thread.start()

    def close(self) -> None:
        """Look no more. A look that is on its way ends by itself."""
        with self._change:
            self._is_closing = True
            self._change.notify_all()

    def latest(self, patience_seconds: float = 1.0) -> Found[T] | None:
        """What was found last, after a new look if it is time for one and it ends within the patience.

        None before the first look that succeeded.
        """
        with self._change:
            if time.monotonic() >= self._next_at:
                self._is_wanted = True
                self._change.notify_all()
                self._change.wait_for(lambda: not self._is_wanted, patience_seconds)
            return self._found

    def age_seconds(self) -> float:
        """Seconds since the last look that succeeded began; infinite before the first."""
        return float("inf") if self._found is None else time.monotonic() - self._found.at

    def _run(self) -> None:
        while self._wait():
            began_at = time.monotonic()
            found: Found[T] | None = None
            error: Exception | None = None
            try:
                found = Found(self._act(), began_at)
            except UnavailableError as failure:
                error = failure  # Those who work with it say so themselves.
            except Exception as failure:  # noqa: BLE001  (the thread has to go on looking)
                error = failure
                if repr(failure) != repr(self.error):
                    _log.warning("metrics.look_failed", look=self.name, exc_info=failure)
            took_seconds = time.monotonic() - began_at
            with self._change:
                self._found = found or self._found
                self.error = error
                self._next_at = began_at + max(self._keep_seconds, took_seconds / _MOST_OF_THE_TIME)
                self._is_wanted = False
                self._change.notify_all()

    def _wait(self) -> bool:
        """Wait until a look is wanted; False at the end."""
        with self._change:
            self._change.wait_for(lambda: self._is_wanted or self._is_closing)
            return not self._is_closing
