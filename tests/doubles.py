"""Stand-ins that are passed in: a clock that is set, a destination that remembers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from processor.destinations._base import Destination, Parcel, Sending, Step
from shared.clock import Clock
from shared.events import DocumentStatus
from shared.providers._base import FileKind


class FakeTime:
    """A time that moves only when told. It begins in the future, so that files made now count as old."""

    def __init__(self) -> None:
        self.instant = datetime(2041, 11, 21, 23, 30, tzinfo=UTC)

    def now(self) -> datetime:
        """The instant that is set."""
        return self.instant

    def seconds(self) -> float:
        """The same as seconds, for what measures waits."""
        return self.instant.timestamp()

    def pass_seconds(self, seconds: float) -> None:
        """Move on."""
        self.instant += timedelta(seconds=seconds)

    def clock(self) -> Clock:
        """A clock that shows this time; its zone is UTC."""
        return Clock(UTC, self.now, self.seconds)


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved on, so that a time limit is reached when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_seconds = 0.0

    def time(self) -> float:
        return super().time() + self._ahead_seconds

    def pass_seconds(self, seconds: float) -> None:
        """Move on."""
        self._ahead_seconds += seconds


class MemoryDestination(Destination):
    """Remembers what was delivered; raises what it is told to, before or after the effect."""

    def __init__(self, name: str = "memory", *, repeatable: bool = False, advancing: bool = True) -> None:
        self.name = name
        self.repeatable = repeatable
        self.kinds = frozenset({FileKind.SIGNED, FileKind.REPORT})
        self.advancing = advancing
        self.delivered: list[Parcel] = []
        self.advanced: list[Step] = []
        self.fail_before: list[Exception] = []
        self.fail_after: list[Exception] = []

    def why_unusable(self) -> str | None:
        return None

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        if self.fail_before:
            raise self.fail_before.pop(0)
        await sending()
        self.delivered.append(parcel)
        if self.fail_after:
            raise self.fail_after.pop(0)
        return f"reference {len(self.delivered)}"

    def advances(self, status: DocumentStatus) -> bool:
        return self.advancing and status is DocumentStatus.COMPLETED

    async def advance(self, step: Step, sending: Sending) -> str:
        if self.fail_before:
            raise self.fail_before.pop(0)
        await sending()
        self.advanced.append(step)
        if self.fail_after:
            raise self.fail_after.pop(0)
        return ""
