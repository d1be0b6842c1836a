"""What is in hand at once is bounded, and the slowest sender gives way."""

from __future__ import annotations

import asyncio

import pytest

from callback_api.admission import Admission
from callback_api.limits import Body
from callback_api.responses import BusyError, TooSlowError


class Sender:
    """A body that arrives piece by piece, as the test hands them over."""

    def __init__(self, admission: Admission, *, limit_seconds: float = 60, max_bytes: int = 1000) -> None:
        self._pieces: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._body = Body(self._pieces.get, "", max_bytes, limit_seconds)
        self._admission = admission
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> bytes:
        with self._admission.place() as place:
            return await self._body.read(place)

    async def send(self, piece: bytes, *, more: bool = True) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        # A few turns of the loop, in which the reader begins, takes the piece and counts it.
        for _ in range(4):
            await asyncio.sleep(0)


def test_one_request_more_than_allowed_is_refused_at_once_and_the_next_has_room() -> None:
    admission = Admission(max_requests=2, max_bytes=1000)
    with admission.place(), admission.place():
        with pytest.raises(BusyError, match="2 requests"), admission.place():
            pytest.fail("there was no room")
        assert admission.requests == 2
    with admission.place(), admission.place():
        assert admission.requests == 2
    assert admission.requests == 0


def test_bytes_are_counted_until_the_answer() -> None:
    admission = Admission(max_requests=9, max_bytes=100)
    with admission.place() as first:
        first.hold(60)
        with admission.place() as second, pytest.raises(BusyError, match="60 bytes"):
            second.hold(41)
        with admission.place() as third:
            third.hold(40)
        assert admission.bytes == 60
    assert admission.bytes == 0


def test_the_body_that_has_been_on_its_way_for_longest_gives_way_to_a_newcomer() -> None:
    """Both when there are too many requests and when there are too many bytes."""

    async def exchange(admission: Admission) -> list[bool]:
        slowest, slow = Sender(admission), Sender(admission)
        await slowest.send(b"a" * 30)
        await slow.send(b"b" * 30)
        newcomer = Sender(admission)
        await newcomer.send(b"c" * 50, more=False)
        assert await newcomer.reading == b"c" * 50
        with pytest.raises(BusyError, match="give way"):
            await slowest.reading
        await slow.send(b"B", more=False)
        assert await slow.reading == b"b" * 30 + b"B"
        return [admission.requests == 0, admission.bytes == 0, not admission.arriving]

    for limits in ((2, 1000), (9, 100)):
        assert asyncio.run(exchange(Admission(*limits))) == [True, True, True]


def test_a_callback_that_is_complete_never_gives_way() -> None:
    """It is being stored, and its sender waits for the answer."""

    async def exchange() -> None:
        admission = Admission(max_requests=1, max_bytes=1000)
        with admission.place() as place:
            await asyncio.sleep(0)
            place.hold(10)
            newcomer = Sender(admission)
            with pytest.raises(BusyError):
                await newcomer.reading
            assert not place.is_sent_off

    asyncio.run(exchange())


def test_a_body_that_takes_too_long_is_told_so_and_leaves_no_trace() -> None:
    async def exchange() -> Admission:
        admission = Admission(max_requests=1, max_bytes=1000)
        sender = Sender(admission, limit_seconds=0.05)
        await sender.send(b"a")
        with pytest.raises(TooSlowError, match=r"within 0\.05 seconds"):
            await sender.reading
        return admission

    admission = asyncio.run(exchange())
    assert (admission.requests, admission.bytes, admission.arriving) == (0, 0, {})
