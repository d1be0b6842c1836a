"""Calls to a peer that takes only so many in a second."""

from __future__ import annotations

import asyncio

from processor.pace import Pace


def turns(pace: Pace, count: int) -> list[float]:
    """Seconds from the start at which each of so many that came at once had its turn."""

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def one() -> float:
            await pace.turn()
            return loop.time() - start

        return await asyncio.gather(*(one() for _ in range(count)))

    return asyncio.run(run())


def test_calls_are_kept_apart_in_their_order() -> None:
    at = turns(Pace(50), 6)
    assert at == sorted(at)
    # What is promised is that none comes too early.
    assert all(moment >= place / 50 - 0.001 for place, moment in enumerate(at))


def test_without_a_limit_nobody_waits() -> None:
    pace = Pace(None)
    assert len(turns(pace, 1000)) == 1000
    assert pace._next_at == 0.0


def test_a_peer_that_was_left_alone_is_called_at_once() -> None:
    pace = Pace(2)

    async def run() -> float:
        loop = asyncio.get_running_loop()
        pace._next_at = loop.time() - 60
        before = loop.time()
        await pace.turn()
        assert pace._next_at >= before + 0.5
        return loop.time() - before

    assert asyncio.run(run()) < 0.5
