"""The loop stands aside for the writer's bursts, and for no hanging one."""

from __future__ import annotations

import threading

from shared.rightofway import RightOfWay


def test_nobody_waits_without_a_burst() -> None:
    way = RightOfWay()
    way.give()
    with way:
        pass
    way.give()


def test_the_loop_goes_on_after_the_burst() -> None:
    way = RightOfWay(patience_seconds=20)
    order: list[str] = []
    begun = threading.Event()

    def burst() -> None:
        with way:
            begun.set()
            order.append("burst")

    thread = threading.Thread(target=burst)
    thread.start()
    assert begun.wait(20)
    way.give()
    order.append("loop")
    thread.join()
    assert order == ["burst", "loop"]


def test_a_burst_that_takes_long_is_given_up_and_the_next_is_not() -> None:
    way = RightOfWay(patience_seconds=0.001)
    go_on, begun = threading.Event(), threading.Event()

    def burst() -> None:
        with way:
            begun.set()
            assert go_on.wait(20)

    thread = threading.Thread(target=burst)
    thread.start()
    assert begun.wait(20)
    seen = []
    for _ in range(2):
        way.give()
        seen.append(way.is_given_up)
    go_on.set()
    thread.join()
    assert [*seen, way.is_given_up] == [True, True, False]
