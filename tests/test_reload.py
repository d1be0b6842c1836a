"""The processor takes over other settings while it works: nothing stops, nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.conftest import make_database
from tests.installation import Installation


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[World, str]]:
    with SimulatorServer() as server:
        yield server.world, server.url


@pytest.fixture(scope="module")
def shared_installation(
    tmp_path_factory: pytest.TempPathFactory, world: tuple[World, str], request: pytest.FixtureRequest
) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("reload")
    (home / "archive").mkdir()
    with make_database("sqlite", home, request) as url:
        made = Installation(home, world[1], url)
        made.start("api", "processor")
        made.wait(lambda: events(made, "processor.started") != [], "the processor to be ready")
        yield made
        made.close()


@pytest.fixture
def installation(shared_installation: Installation, world: tuple[World, str]) -> Iterator[Installation]:
    """One processor for all tests; its settings are put back at the end."""
    before = shared_installation.config.read_text()
    pid = shared_installation.pid("processor")
    yield shared_installation
    world[0].weather.clear()
    shared_installation.config.write_text(before)
    reload(shared_installation)
    # A process that had died would not be found by its number any more.
    os.kill(pid, 0)


def events(installation: Installation, name: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in installation.log("processor").splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def reload(installation: Installation, word: str = "settings.reloaded") -> dict[str, Any]:
    """Have the settings read again; returns the line that says what came of it."""
    count = len(events(installation, word))
    os.kill(installation.pid("processor"), signal.SIGHUP)
    installation.wait(lambda: len(events(installation, word)) > count, word)
    return events(installation, word)[-1]


def change(installation: Installation, old: str, new: str) -> None:
    text = installation.config.read_text()
    assert old in text
    installation.config.write_text(text.replace(old, new))


def complete(installation: Installation, peers: World, number: int) -> str:
    """A completed document with one file; returns its id."""
    envelope = peers.ssign.send()
    dms = {"cdFluxo": str(number), "cdTarefa": "5", "cdTipoAnexo": "3", "dsEmailExecutor": "i@example.com"}
    installation.register("ssign", envelope.id, dms, file_ids=str(envelope.file_ids[0]))
    assert installation.post("ssign", peers.ssign.complete(envelope.id)).status_code == 200
    return str(envelope.id)


def uploads(peers: World, number: int) -> int:
    return sum(found.values["cdFluxo"] == str(number) for found in peers.smartshare.attachments)


def state(installation: Installation, document_id: str, task: str, destination: str = "") -> str:
    """How one thing that a document owes stands; empty when nothing of the kind is owed."""
    if not installation.knows("ssign", document_id):
        return ""
    shown = installation.show("ssign", document_id)
    found = [
        item["state"]
        for item in shown["deliveries"]
        if item["task"] == task and destination in (item["destination"] or "")
    ]
    return str(found[0]) if found else ""


def test_what_waited_for_a_setting_is_done_once_it_is_there(
    installation: Installation, world: tuple[World, str]
) -> None:
    """Without anybody asking for it."""
    peers, url = world
    change(installation, f'base_url = "{url}/ssign/rest"\n', "")
    assert reload(installation)["changed"] == ["providers.ssign.base_url"]
    document = complete(installation, peers, 1)
    installation.wait(lambda: events(installation, "delivery.waiting") != [], "the fetch to wait")
    change(installation, "[providers.ssign]\n", f'[providers.ssign]\nbase_url = "{url}/ssign/rest"\n')
    reload(installation)
    installation.wait(lambda: state(installation, document, "advance") == "done", "everything to be done")
    assert uploads(peers, 1) == 1


def test_what_is_in_hand_ends_with_what_it_began_with_and_the_rest_goes_on(
    installation: Installation, world: tuple[World, str]
) -> None:
    """A long upload is neither cut off nor repeated; another overtakes it, with the new settings."""
    # On a busy machine the other one may need more time than is long otherwise.
    assert any(is_overtaken(installation, world[0], seconds) for seconds in (3, 12, 25))


def is_overtaken(installation: Installation, peers: World, seconds: int) -> bool:
    """Whether an upload that takes so long is still under way when another one, begun after a reload, has
    come to its end; both have to come there, once."""
    slow_number, quick_number = 100 + seconds, 200 + seconds
    before = len(peers.requests_to("smartshare", "InserirAnexo"))
    peers.weather.add(Storm("smartshare", StormKind.DELAY, path="InserirAnexo", seconds=seconds, times=1))
    slow = complete(installation, peers, slow_number)
    installation.wait(
        lambda: len(peers.requests_to("smartshare", "InserirAnexo")) > before, "the upload to be under way"
    )
    change(installation, 'connect_timeout = "', 'connect_timeout = "1')
    reload(installation)
    quick = complete(installation, peers, quick_number)
    installation.wait(lambda: state(installation, quick, "advance") == "done", "the second document")
    overtaken = state(installation, slow, "deliver", "smartshare") != "done"
    installation.wait(lambda: state(installation, slow, "advance") == "done", "the first document")
    assert (uploads(peers, slow_number), uploads(peers, quick_number)) == (1, 1)
    return overtaken


def test_destinations_come_and_go(installation: Installation, world: tuple[World, str]) -> None:
    """One that is gone is owed nothing new; one that came gets what is completed from then on."""
    peers, _ = world
    other = installation.home / "other"
    other.mkdir()
    change(installation, "[destinations.archive]", "[destinations.other]")
    change(installation, str(installation.home / "archive"), str(other))
    assert reload(installation)["changed"] == ["destinations.archive", "destinations.other"]
    document = complete(installation, peers, 4)
    installation.wait(lambda: state(installation, document, "deliver", "other") == "done", "the delivery")
    assert state(installation, document, "deliver", "archive") == ""
    # And the one that went comes again, in the same process.
    change(installation, "[destinations.other]", "[destinations.archive]")
    change(installation, str(other), str(installation.home / "archive"))
    reload(installation)
    document = complete(installation, peers, 5)
    installation.wait(lambda: state(installation, document, "deliver", "archive") == "done", "the delivery")


def test_wrong_settings_are_refused_and_the_work_goes_on(
    installation: Installation, world: tuple[World, str]
) -> None:
    before = installation.config.read_text()
    change(installation, "[processor]\n", "[processor]\nnonsense = 1\n")
    assert "nonsense" in reload(installation, "settings.refused")["reason"]
    installation.post("ssign", {"envelopeId": 6, "action": "EXPIRED"})
    installation.wait(lambda: installation.knows("ssign", "6"), "the callback to be recorded")
    installation.config.write_text(before)


def test_what_waits_for_a_restart_is_named_and_leaves_the_rest_as_it_is(
    installation: Installation, tmp_path: Path
) -> None:
    change(installation, "[spool]\n", '[spool]\nretention_done = "0"\ntimezone = "Asia/Tokyo"\n')
    assert reload(installation, "settings.need_restart")["keys"] == ["spool.timezone"]
    done = installation.count(Folder.DONE)
    installation.post("ssign", {"envelopeId": 7, "action": "EXPIRED"})
    installation.wait(lambda: installation.knows("ssign", "7"), "the callback to be recorded")
    installation.wait_until_settled()
    # The other one counts already: what is done is deleted.
    assert installation.count(Folder.DONE) == done
