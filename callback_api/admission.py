"""How much is in hand at once: requests and bytes up to a limit, and the slowest sender gives way."""

from __future__ import annotations

import asyncio
from typing import Self

from callback_api.responses import BusyError


class Admission:
    """Counts the callbacks between their head and their answer, and the bytes of their bodies.

    A sender whose body is still on its way can be sent off when room is needed, the one that began first
    before the others: an honest one is done within milliseconds, so what has been on its way for long is
    slow or means ill. A callback that is being stored stays.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.arriving: dict[Place, asyncio.Timeout] = {}
        """Whose body is on its way, the oldest first, and what cuts it off."""

    def place(self) -> Place:
        """Room for one request, taken by `with`."""
        return Place(self)

    def send_one_off(self, but: Place) -> bool:
        """Cut off the body that has been on its way for longest; False when there is none to cut off."""
        place = next((found for found in self.arriving if found is not but), None)
        if place is None:
            return False
        limit = self.arriving.pop(place)
        # It hears of it in its next turn; its room is free now.
        limit.reschedule(0)
        place.is_sent_off = True
        place.give_back()
        return True


class Place:
    """The room of one request, from the beginning of the `with` block to its end."""

    __slots__ = ("_admission", "_held_bytes", "_is_counted", "is_sent_off")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._is_counted = False
        self._held_bytes = 0
        self.is_sent_off = False
        """Whether it had to give way to another."""

    def __enter__(self) -> Self:
        """Take part.

        Raises:
            BusyError: as many requests as may be are in hand, and none of them can be sent off.
        """
        admission = self._admission
        if admission.requests >= admission.max_requests and not admission.send_one_off(but=self):
            raise BusyError(f"{admission.requests} requests are in hand already")
        admission.requests += 1
        self._is_counted = True
        return self

    def __exit__(self, *_error: object) -> None:
        self.has_arrived()
        self.give_back()

    def hold(self, size_bytes: int) -> None:
        """Count so many bytes more.

        Raises:
            BusyError: with them there would be more than may be, and no other sender can be sent off.
        """
        admission = self._admission
        while admission.bytes + size_bytes > admission.max_bytes:
            if not admission.send_one_off(but=self):
                raise BusyError(f"{admission.bytes} bytes are in hand already")
        admission.bytes += size_bytes
        self._held_bytes += size_bytes

    def is_arriving(self, limit: asyncio.Timeout) -> None:
        """The body is on its way, and may be cut off."""
        self._admission.arriving[self] = limit

    def has_arrived(self) -> None:
        """The body is complete, or given up."""
        self._admission.arriving.pop(self, None)

    def give_back(self) -> None:
        """Count neither the request nor its bytes any more."""
        if self._is_counted:
            self._is_counted = False
            self._admission.requests -= 1
        self._admission.bytes -= self._held_bytes
        self._held_bytes = 0
