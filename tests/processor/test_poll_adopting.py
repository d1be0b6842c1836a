"""A poller that goes on with other settings: asks another desk, with another key, and runs once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from processor.access import Access
from shared.errors import AccessError
from shared.providers._base import Ask
from tests.processor.asking import A_DAY_SECONDS, NAME, Desk, Office, open_office
from tests.processor.conftest import Workshop


@pytest.fixture
def office(workshop: Workshop) -> Iterator[Office]:
    with open_office(workshop) as made:
        yield made


def long_refused(office: Office) -> Access:
    """Our standing with a provider that is asked once in ten days at most."""
    return Access(NAME, pause_seconds=10 * A_DAY_SECONDS, monotonic=office.workshop.time.seconds)


def test_it_asks_another_desk_and_runs_once(office: Office) -> None:
    """One that was ended asks nobody until it is wanted again, and is then begun anew."""
    office.begin(Ask("one"))
    office.desk.answers["one"] = "PENDING"
    desk = Desk({"one": "PENDING"})
    poller, other = office.poller(), replace(office, desk=desk).poller()

    async def live() -> list[bool]:
        stop = asyncio.Event()
        running = asyncio.create_task(poller.run(stop))
        await asyncio.sleep(0)
        at_once = poller.adopt(other)
        poller.end()
        await running
        await poller.drain(30)
        afterwards = poller.adopt(other)
        return [at_once, afterwards]

    assert asyncio.run(live()) == [False, True]
    office.workshop.time.pass_seconds(2 * A_DAY_SECONDS)
    office.ask(poller)
    assert (office.desk.asked, desk.asked) == ([], ["one", "one"])


def test_a_key_that_was_refused_is_forgotten_with_the_settings_it_came_from(office: Office) -> None:
    office.begin(Ask("one"))
    office.desk.answers["one"] = AccessError("who are you?")
    poller = office.poller(access=long_refused(office))
    assert office.ask(poller) == ["one"]
    assert office.ask(poller) == []
    desk = Desk({"one": "PENDING"})
    poller.adopt(replace(office, desk=desk).poller(access=long_refused(office)))
    office.ask(poller)
    assert desk.asked == ["one"]


def test_what_was_asked_with_the_old_key_says_nothing_of_the_new_one(office: Office) -> None:
    """Its refusal comes after the change, and the subject is asked about again at once."""
    office.begin(Ask("one"))
    office.desk.answers["one"] = AccessError("who are you?")
    poller = office.poller(access=long_refused(office))
    desk = Desk({"one": "PENDING"})
    other = replace(office, desk=desk).poller(access=long_refused(office))
    office.desk.meanwhile = lambda: poller.adopt(other)
    office.ask(poller)
    assert (office.desk.asked, poller.is_left_alone) == (["one"], False)
    office.ask(poller)
    assert desk.asked == ["one"]
