"""A death in the middle of what changes the folders: nothing lost, nothing double, nothing unexplained."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.clock import Clock
from shared.settings import load_settings
from shared.spool import Folder
from tests.callback_api.door import in_process
from tests.nursery import Fault, Process
from tests.signspool.conftest import MakePlace, Place
from tests.waiting import wait_until

DEADLINE_SECONDS = 120.0
ALL = os.environ.get("SIGNSPOOL_TEST_KILL_STEPS") == "all"
"""Whether every place is tried; the first of each kind alone as a rule, since each takes a second or two."""
SECRET = "the-right-secret-4417"
ZONE = ZoneInfo("America/Sao_Paulo")


def dying_at(*places: tuple[str, str, str, int]) -> pytest.MarkDecorator:
    """Has a test run once for each place to die at: module, name, enter or leave, and at which time."""
    return pytest.mark.parametrize(
        "fault", places if ALL else places[:1], ids=lambda fault: f"{fault[1]}-{fault[2]}"
    )


def days_ago(days: int) -> str:
    return (datetime.now(ZONE).date() - timedelta(days=days)).isoformat()


def start(place: Place, *arguments: str, fault: tuple[str, str, str, int] | None = None) -> Process:
    """Start a command in a process of its own, which may die at a place in the program."""
    deadly = Fault(*fault, hit=str(place.home / "hit")) if fault else None
    return place.nursery.start([*arguments, "--config", str(place.config)], place.home / "log", fault=deadly)


def died(place: Place, *arguments: str, fault: tuple[str, str, str, int]) -> None:
    """Run a command that dies where the fault says."""
    process = start(place, *arguments, fault=fault)
    assert process.wait(DEADLINE_SECONDS)
    assert (place.home / "hit").exists(), (place.home / "log").read_text()


def until(condition: Callable[[], bool], what: str, place: Place) -> None:
    wait_until(condition, lambda: f"{what}: {(place.home / 'log').read_text()[-2000:]}")


@dying_at(
    ("processor.daylists", "digest_of_file", "leave", 2),
    ("processor.daylists", "sync_folder", "enter", 1),
    ("processor.retention", "_drop_folder", "enter", 1),
    ("processor.history", "History.drop", "enter", 1),
)
def test_a_processor_that_dies_while_it_keeps_house_goes_on_at_its_next_start(
    make_place: MakePlace, fault: tuple[str, str, str, int]
) -> None:
    """Every day gets its list, before the oldest goes by retention; the chain is unbroken."""
    place = make_place('[processor]\nsweep = "50ms"\n')
    days = [days_ago(age) for age in (100, 3, 1)]
    for day in days:
        for number in range(3):
            place.callback(str(number), folder=Folder.DONE, day=day)
    died(place, "processor", fault=fault)
    process = start(place, "processor")
    oldest = place.spool.folder(Folder.DONE) / days[0]
    until(lambda: not oldest.exists(), "the oldest day to go", place)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS)
    said = place.here("spool", "verify", "--json")
    assert (said.code, said.json["faults"], said.json["lists"]) == (0, [], 3)
    assert (said.json["files"]["expired"], said.json["files"]["sound"]) == (3, 6)
    for day in days[1:]:
        subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", f"{day}.sha256"],
            cwd=place.spool.folder(Folder.DONE),
            check=True,
        )
    assert list(place.spool.folder(Folder.DONE).glob(".*")) == []


@dying_at(
    ("shared.commit", "GroupCommit.commit", "leave", 1),
    ("shared.spool", "Spool.remove", "leave", 1),
    ("shared.commit", "GroupCommit._place", "enter", 2),
)
def test_a_callback_that_is_judged_again_is_never_lost_and_counts_once(
    make_place: MakePlace, fault: tuple[str, str, str, int]
) -> None:
    place = make_place('[providers.arqsign]\nsecret = "a-wrong-secret-9981"\n')
    with in_process(load_settings(place.config), clock=Clock(ZONE)) as door:
        for number in range(2):
            body = b'{"idProcesso": "p-%d", "idStatus": 4}' % number
            digest = hmac.digest(SECRET.encode(), body, hashlib.sha256)
            headers = {"HMAC": base64.b64encode(digest).decode()}
            door.ask(url="/api/callback?provider=arqsign", content=body, headers=headers)
    place.config.write_text(place.config.read_text().replace("a-wrong-secret-9981", SECRET))
    died(place, "spool", "reverify", "--all", "--yes", fault=fault)
    kept = {name.partition("_")[0] for name in (*place.names(Folder.SPOOL), *place.names(Folder.REFUSED))}
    assert kept == {"p-0", "p-1"}
    place.once()
    assert place.here("spool", "reverify", "--all", "--yes").code == 0
    place.once()
    for number in range(2):
        events = place.here("documents", "show", "arqsign", f"p-{number}", "--json").json["events"]
        assert [event["trust"] for event in events] == ["proven"]
    assert place.names(Folder.REFUSED) == []


@dying_at(
    ("processor.erase", "stop_work", "leave", 1),
    ("shared.spool", "Spool.remove", "enter", 1),
    ("processor.erase", "erase_entry", "leave", 1),
    ("processor.erase", "erase_rows_and_files", "enter", 1),
)
def test_an_erasing_that_dies_is_finished_by_the_next(
    make_place: MakePlace, fault: tuple[str, str, str, int]
) -> None:
    place = make_place()
    for _ in range(2):
        place.callback("155", action="EXPIRED", day=days_ago(1))
    place.once()
    assert len(place.names(Folder.DONE)) == 2
    started = start(place, "retention", "--yes")
    assert started.wait(DEADLINE_SECONDS)
    died(place, "documents", "erase", "ssign", "155", "--yes", fault=fault)
    assert place.here("spool", "verify").code == 0
    assert place.here("documents", "erase", "ssign", "155", "--yes").code == 0
    assert place.names(Folder.DONE) == []
    said = place.here("spool", "verify", "--json")
    assert (said.code, said.json["files"]["erased"]) == (0, 2)
    assert place.here("documents", "show", "ssign", "155", "--json").json["erased_at"] is not None
