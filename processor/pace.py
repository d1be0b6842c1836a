"""Keeps calls to a peer apart that takes only so many in a second."""

from __future__ import annotations

import asyncio


class Pace:
    """Gives turns, evenly spaced, in the order in which they were asked for; None spaces nothing."""

    def __init__(self, calls_per_second: float | None) -> None:
        self._gap_seconds = 0.0 if calls_per_second is None else 1 / calls_per_second
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait until it is one's turn."""
        if not self._gap_seconds:
            return
        now = asyncio.get_running_loop().time()
        at = max(self._next_at, now)
        self._next_at = at + self._gap_seconds
        if at > now:
            await asyncio.sleep(at - now)
