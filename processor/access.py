"""Whether a provider accepts our own key: said once when it no longer does, and once when it does again."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.errors import AccessError

log = structlog.get_logger()

_LONGEST_PAUSE_FACTOR = 8.0


class Access:
    """Our standing with one provider, shared by everything that asks it.

    A key that is refused is refused for every document alike, so nothing is asked but one trial after each
    pause; every refused trial doubles the pause, up to eight times the first. Times are in the seconds of
    `monotonic`.
    """

    def __init__(self, provider: str, *, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._provider = provider
        self._first_pause_seconds = pause_seconds
        self._pause_seconds = pause_seconds
        self._monotonic = monotonic
        self._trial_at: float | None = None
        self._trial = False

    @property
    def is_refused(self) -> bool:
        """Whether our key was refused the last time."""
        return self._trial_at is not None

    def allowance(self, wanted: int) -> int:
        """How many requests may begin now: all, none, or the one trial."""
        if self._trial_at is None:
            return wanted
        if self._monotonic() < self._trial_at:
            return 0
        return min(wanted, 1)

    def begin(self) -> None:
        """A request begins: while our key is refused, it is the only trial of this pause."""
        if self._trial_at is not None:
            self._trial = True
            self._trial_at = self._monotonic() + self._pause_seconds

    def refused(self, error: AccessError) -> None:
        """Our key was refused; the first time, that is an alarm."""
        if self._trial_at is None:
            log.error("provider.refuses_us", provider=self._provider, reason=str(error))
        elif self._trial:
            longest = self._first_pause_seconds * _LONGEST_PAUSE_FACTOR
            self._pause_seconds = min(self._pause_seconds * 2, longest)
        self._trial = False
        self._trial_at = self._monotonic() + self._pause_seconds

    def accepted(self) -> None:
        """Our key was accepted."""
        if self._trial_at is not None:
            log.info("provider.accepts_us", provider=self._provider)
        self._trial_at = None
        self._trial = False
        self._pause_seconds = self._first_pause_seconds
