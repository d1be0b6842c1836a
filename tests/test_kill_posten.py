"""The daemon dies around the confirmation of an update; it is made all the same, and never before its files.

By default the most telling places are tried; with `SIGNSPOOL_TEST_KILL_STEPS=all` all, on both databases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from simulator.posten_jobs import Job
from tests.deaths import code_of
from tests.nursery import Nursery
from tests.posten_story import ANNE, PostenStory, one_for_each_database, signed_digest
from tests.steps import Point

ALL = os.environ.get("SIGNSPOOL_TEST_KILL_STEPS") == "all"

PLACES = {
    "handed out, not spooled": (Point("processor.poll", "Poller._spool", "enter"), "sqlite"),
    "spooled, the time not moved": (Point("processor.poll", "Poller._spool", "leave"), ""),
    "the time moved": (Point("processor.polls", "finish", "leave"), ""),
    "recorded, file not moved": (Point("processor.pipeline", "Pipeline._move_on", "enter"), "postgresql"),
    "files in place, not noted": (Point("processor.download", "fetch_files", "leave"), "sqlite"),
    "files noted, nothing confirmed": (Point("processor.work", "Worker._confirm", "enter"), ""),
    "confirmed, not noted": (
        Point("shared.providers.posten", "Posten.confirm", "leave"),
        "sqlite postgresql",
    ),
    "noted, not committed": (Point("processor.work", "Worker._confirm", "leave"), ""),
}
"""Where the daemon dies, and on which databases that is tried every time."""


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_still_one_in_the_program(place: str) -> None:
    point = PLACES[place][0]
    assert code_of(point.module, point.name).co_name == point.name.rpartition(".")[2]


def hide_briefly(story: PostenStory) -> None:
    story.posten.hide_seconds = 1.0


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[Callable[[str], PostenStory]]:
    with one_for_each_database(request, tmp_path_factory, nursery, hide_briefly) as make:
        yield make


def states(story: PostenStory, job: Job) -> set[str]:
    """Of what is owed to and by the provider."""
    return {item["state"] for item in story.shown(job)["owed"] if item["task"] in ("fetch", "confirm")}


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        pytest.param(kind, place, id=f"{kind}, {place}")
        for place, (_, every_time) in PLACES.items()
        for kind in ("sqlite", "postgresql")
        if ALL or kind in every_time
    ],
)
def test_a_daemon_that_dies_confirms_what_it_has_and_nothing_else(
    stories: Callable[[str], PostenStory], kind: str, place: str
) -> None:
    story = stories(kind)
    job = story.send(ANNE)
    story.posten.act(job.id, "SIGNED")
    digest = signed_digest(story.posten, job)
    story.die_at("processor", PLACES[place][0])
    assert story.posten.unstored == []
    assert (job.confirmations == []) is not place.startswith(("confirmed", "noted"))
    story.start("processor")
    try:
        story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
        # An entry of which something is held is put aside while its confirmation is still on its way.
        story.wait(lambda: states(story, job) == {"done"}, "fetch and confirmation to be noted")
    finally:
        story.kill("processor")
    assert story.posten.unstored == []
    assert story.posten.waiting() == 0
    found = story.shown(job)
    assert found["status"] == "completed"
    assert [event["outcome"] for event in found["events"]].count("applied") == 1
    assert story.archived(job) == [digest]
    # An upload that was on its way when the daemon died is held for a person, and not made twice.
    assert [item.file.sha256 for item in story.world.smartshare.attachments].count(digest) <= 1
