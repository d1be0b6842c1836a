"""What was seen to arrive: in order, each once, never too many, and a listing where something was missed."""

from __future__ import annotations

from processor.arrivals import MOST, Arrivals
from shared.spool import Entry

DAY = "2041-11-21"


def entries(*names: str) -> list[Entry]:
    return [Entry(DAY, name) for name in names]


def test_the_oldest_are_taken_first_and_each_once() -> None:
    arrivals = Arrivals()
    arrivals.add(entries("b", "a"))
    arrivals.add(entries("a", "c", "b"))
    assert arrivals.take(2) == entries("b", "a")
    assert arrivals.take(2) == entries("c")
    assert arrivals.take(2) == []


def test_what_was_taken_may_arrive_again() -> None:
    """Moved back into the spool, or written on after it was looked at."""
    arrivals = Arrivals()
    arrivals.add(entries("a"))
    arrivals.take(1)
    arrivals.add(entries("a"))
    assert arrivals.take(1) == entries("a")


def test_at_the_start_and_whenever_something_was_missed_a_listing_is_needed_once() -> None:
    arrivals = Arrivals()
    assert arrivals.listing_needed()
    assert not arrivals.listing_needed()
    arrivals.missed_some()
    assert arrivals.listing_needed()
    assert not arrivals.listing_needed()


def test_a_flood_is_left_to_the_listing() -> None:
    arrivals = Arrivals()
    arrivals.listing_needed()
    arrivals.add(Entry(DAY, f"{number}") for number in range(MOST))
    assert not arrivals.listing_needed()
    arrivals.add(entries("one too many"))
    assert arrivals.listing_needed()
    assert len(arrivals.take(2 * MOST)) == MOST
