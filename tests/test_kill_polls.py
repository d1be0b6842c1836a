"""The processor dies while it asks about a session: what was said is never lost, and counts once.

`SIGNSPOOL_TEST_KILL_STEPS=all` tries every death on both databases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shared.spool import Folder
from simulator.server import SimulatorServer
from tests.conftest import make_database
from tests.deaths import code_of
from tests.nursery import Nursery
from tests.steps import Point
from tests.test_walk_restpki import RestPkiStory, mortal

ALL = os.environ.get("SIGNSPOOL_TEST_KILL_STEPS") == "all"
EVERY_TIME = {("sqlite", "one document spooled, the other not"), ("postgresql", "all spooled, nothing noted")}
_POLL, _POLLS = "processor.poll", "processor.polls"
DEATHS = {
    "leased, nothing asked": Point(_POLLS, "lease", "leave"),
    "asked, nothing spooled": Point(_POLL, "Poller._spool", "enter"),
    "in its place, not synced": Point("shared.commit", "GroupCommit._place", "leave"),
    "one document spooled, the other not": Point(_POLL, "Poller._spool", "leave"),
    "all spooled, nothing noted": Point(_POLLS, "finish", "enter"),
    "noted, not committed": Point(_POLLS, "finish", "leave"),
}


@pytest.fixture(scope="module")
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[RestPkiStory]:
    """One installation for all deaths; each has a session of its own."""
    home = tmp_path_factory.mktemp("polls")
    with SimulatorServer() as server, make_database(request.param, home, request) as url:
        made = mortal(home, server.url, url, nursery)
        yield RestPkiStory(made, server.world)
        made.close()


@pytest.mark.parametrize("point", DEATHS.values(), ids=DEATHS.keys())
def test_every_death_is_still_at_a_place_in_the_program(point: Point) -> None:
    assert code_of(point.module, point.name).co_name == point.name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("story", "death"),
    [
        (kind, death)
        for kind in ("sqlite", "postgresql")
        for death in DEATHS
        if ALL or (kind, death) in EVERY_TIME
    ],
    indirect=["story"],
)
def test_what_a_session_said_is_neither_lost_nor_doubled_by_a_death(story: RestPkiStory, death: str) -> None:
    installation, restpki = story.installation, story.restpki
    restpki.documents_on_cancel = "kept"
    session = story.session(("a.pdf", "b.pdf"))
    story.register(session)
    restpki.cancel(session.id)
    installation.die_at("processor", DEATHS[death])
    installation.start("processor")
    story.wait_for(session, "cancelled")
    installation.wait(lambda: story.asked(session.id).next_at is None, "an end of asking")
    installation.wait_until_settled()
    installation.kill("processor")
    for document_id in session.document_ids:
        outcomes = [outcome for _, _, outcome in story.events(document_id)]
        assert outcomes.count("applied") == 1
        assert set(outcomes) <= {"applied", "repeated"}
    assert installation.count(Folder.QUARANTINE) == 0
