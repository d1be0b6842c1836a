"""Whether a provider lets us in: with our key, and with the calls that our account has left."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.errors import AccessError

log = structlog.get_logger()

REFUSED = "our key is not accepted: "
"""What the reason of a thing begins with that waits until our key is accepted again."""

_LONGEST_PAUSE_FACTOR = 8.0
_MOST_SUSPECTS = 1000


class Access:
    """Our standing with one provider, shared by everything that asks it.

    A key that is refused is refused for every document alike, so nothing is asked but one trial after each
    pause; every refused trial doubles the pause, up to eight times the first. It is said once when our key is
    refused, and once when it is accepted again. While the calls of our account are used up, nothing is asked
    either. Times are in the seconds of `monotonic`.
    """

    def __init__(self, provider: str, *, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._provider = provider
        self._first_pause_seconds = pause_seconds
        self._pause_seconds = pause_seconds
        self._monotonic = monotonic
        self._trial_at: float | None = None
        self._trial = False
        self._calls_at = 0.0
        self._suspects: set[str] = set()

    @property
    def is_refused(self) -> bool:
        """Whether our key was refused the last time."""
        return self._trial_at is not None

    def allowance(self, wanted: int) -> int:
        """How many requests may begin now: all, none, or the one trial."""
        now = self._monotonic()
        if now < self._calls_at:
            return 0
        if self._trial_at is None:
            return wanted
        return 0 if now < self._trial_at else min(wanted, 1)

    def begin(self) -> None:
        """A request begins: while our key is refused, it is the only trial of this pause."""
        if self._trial_at is not None:
            self._trial = True
            self._trial_at = self._monotonic() + self._pause_seconds

    def refused(self, error: AccessError, about: str) -> bool:
        """Our key was refused, when it was asked about one thing; the first time, that is an alarm.

        False when it is about that thing alone: it was refused before, and others were accepted since.
        """
        if self._trial_at is None and about in self._suspects:
            return False
        if len(self._suspects) < _MOST_SUSPECTS:
            self._suspects.add(about)
        if self._trial_at is None:
            log.error("provider.refuses_us", provider=self._provider, reason=str(error))
        elif self._trial:
            longest = self._first_pause_seconds * _LONGEST_PAUSE_FACTOR
            self._pause_seconds = min(self._pause_seconds * 2, longest)
        self._trial = False
        self._trial_at = self._monotonic() + self._pause_seconds
        return True

    def accepted(self, about: str) -> None:
        """Our key was accepted, when it was asked about one thing."""
        self._suspects.discard(about)
        if self._trial_at is not None:
            log.info("provider.accepts_us", provider=self._provider)
        self._trial_at = None
        self._trial = False
        self._pause_seconds = self._first_pause_seconds

    def used_up(self, seconds: float) -> None:
        """The account has no calls left for so long."""
        self._calls_at = max(self._calls_at, self._monotonic() + seconds)

    @property
    def calls_wait_seconds(self) -> float:
        """How long until our account has calls again; 0 when it has."""
        return max(0.0, self._calls_at - self._monotonic())

    def wait_seconds(self) -> float:
        """How long until something may begin again; 0 when it may now."""
        return max(0.0, max(self._calls_at, self._trial_at or 0.0) - self._monotonic())
