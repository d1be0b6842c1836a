"""`signspool check --remember`: what a timer tells is told once when it begins, and once when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.spool import Folder
from signspool.finding import Finding, fail, ok, warn
from signspool.remembering import Memory, Weight
from tests.signspool.conftest import Place, Said, clean_environ
from tests.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY_SECONDS = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "faults.json"


def told(path: Path, *found: Finding, hours: float = 0, remind: float = DAY_SECONDS) -> list[str]:
    """What people are told, so many hours later."""
    lines = Memory(path).compare(found, NOW + timedelta(hours=hours), remind_seconds=remind)
    return [line.text for line in lines if line.weight <= Weight.ENDED]


def test_a_fault_is_told_when_it_begins_and_when_it_ends(path: Path) -> None:
    """Numbers and ages in its words change each time, and are no other fault."""
    full = "make room"
    assert told(path, ok("free space", "90 MiB free")) == []
    assert told(path, fail("free space", "9 MiB free", full)) == ["FAIL free space: 9 MiB free: make room"]
    assert told(path, fail("free space", "8 MiB free", full), hours=1) == []
    assert told(path, warn("free space", "100 MiB free", full), hours=2) == ["ended free space, after 2h"]
    assert told(path, ok("free space", "900 MiB free"), hours=3) == []
    assert told(path, fail("free space", "9 MiB free", full), hours=4) == [
        "FAIL free space: 9 MiB free: make room"
    ]


def test_one_fault_does_not_hide_another_that_begins_meanwhile(path: Path) -> None:
    first, second = fail("modes", "a", "chmod o= a"), fail("modes", "b", "chmod o= b")
    assert told(path, first) == ["FAIL modes: a: chmod o= a"]
    assert told(path, first, second, hours=1) == ["FAIL modes: b: chmod o= b"]
    assert told(path, second, hours=2) == ["ended modes, after 2h"]


def test_what_goes_on_is_told_again_once_a_day_with_its_age(path: Path) -> None:
    fault = fail("quarantine", "1 entry")
    assert told(path, fault) == ["FAIL quarantine: 1 entry"]
    assert told(path, fault, hours=23) == []
    assert told(path, fault, hours=25) == ["FAIL (for 1d) quarantine: 1 entry"]
    assert told(path, fault, hours=26) == []
    assert told(path, fault, hours=50) == ["FAIL (for 2d) quarantine: 1 entry"]
    assert told(path, fault, hours=500, remind=0) == []


def test_nothing_ends_while_it_cannot_be_looked_at(path: Path) -> None:
    """Without its database or spool the check sees too little to say so."""
    fault = fail("quarantine", "1 entry")
    told(path, fault)
    for needed in ("database", "spool", "entries", "settings"):
        assert told(path, fail(needed, "is away"), hours=1) == [f"FAIL {needed}: is away"]
        assert told(path, fault, hours=2) == [f"ended {needed}, after 1h"]
    assert told(path, hours=3) == ["ended quarantine, after 3h"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"about": "x", "since": "y"}}'])
def test_a_memory_that_cannot_be_read_remembers_nothing(path: Path, content: str) -> None:
    """To be told twice does no harm."""
    path.write_text(content)
    assert told(path, fail("modes", "a")) == ["FAIL modes: a"]
    assert told(path, fail("modes", "a")) == []


def test_what_goes_on_is_named_each_time_with_little_weight(path: Path) -> None:
    """So that the end of the journal shows it, and nobody is told."""
    found = [fail("quarantine", "1 entry"), fail("modes", "a", "x"), fail("modes", "b", "y")]
    Memory(path).compare(found, NOW, remind_seconds=0)
    lines = Memory(path).compare(found, NOW + timedelta(hours=2), remind_seconds=0)
    assert [(int(line.weight), line.text) for line in lines] == [
        (6, "failing: quarantine for 2h, modes for 2h")
    ]


# The command


def as_the_timer(place: Place, path: Path) -> Said:
    """The command in a process of its own, whose output is the journal's."""
    output = place.home / "journal"
    with output.open("w+") as stream:
        status = os.fstat(stream.fileno())
        command = [sys.executable, "-m", "signspool", "check", "--offline", "--remember", str(path)]
        done = subprocess.run(
            [*command, "--config", str(place.config)],
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
            env={**clean_environ(), "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
            timeout=PATIENCE_SECONDS,
        )
    return Said(done.returncode, output.read_text(), done.stderr.decode())


def test_the_command_says_what_is_new_and_fails_for_as_long_as_something_is_wrong(
    place: Place, path: Path
) -> None:
    """Lines of the journal carry their priority; elsewhere, as in a mail of cron, nothing is said twice."""
    place.spool.quarantine(place.callback("1"), Folder.SPOOL, {"reason": "x"})
    said = as_the_timer(place, path)
    first, second = said.out.splitlines()
    assert (said.code, first[:20], second) == (1, "<3>FAIL quarantine: ", "<6>failing: quarantine for 0s")
    said = place.here("check", "--offline", "--remember", str(path))
    assert (said.code, said.out) == (1, "")
    for entry in place.spool.entries(Folder.QUARANTINE):
        place.spool.remove(entry, Folder.QUARANTINE)
    said = place.here("check", "--offline", "--remember", str(path))
    assert (said.code, said.out.startswith("ended quarantine, after ")) == (0, True)
    assert json.loads(path.read_text()) == {}


def test_a_root_that_is_gone_is_told_and_not_made_behind_everybodys_back(place: Place, path: Path) -> None:
    """As for the moment in which somebody moves it. Typed by a person the command makes one."""
    away = place.spool.root.rename(place.home / "away")
    said = place.here("check", "--offline", "--remember", str(path))
    assert (said.code, f"FAIL spool: {place.spool.root} is not there" in said.out) == (1, True)
    assert not place.spool.root.exists()
    away.rename(place.spool.root)
    assert place.here("check", "--offline", "--remember", str(path)).code == 0
    place.spool.root.rename(away)
    assert f"made {place.spool.root}" in place.here("check", "--offline").out


def test_wrong_settings_are_a_fault_as_others(place: Place, path: Path) -> None:
    """A timer would tell of them each time else; typed by a person they are wrong use as ever."""
    right = place.config.read_text()
    place.config.write_text(f"{right}\n[nonsense]\n")
    for out in ("FAIL settings: ", ""):
        said = place.here("check", "--offline", "--remember", str(path))
        assert (said.code, said.out[:15], said.err) == (1, out, "")
    assert place.here("check", "--offline").code == 2
    place.config.write_text(right)
    said = place.here("check", "--offline", "--remember", str(path))
    assert (said.code, said.out[:15]) == (0, "ended settings,")


def test_a_memory_that_cannot_be_written_fails(place: Place, tmp_path: Path) -> None:
    said = place.here("check", "--offline", "--remember", str(tmp_path / "nowhere" / "faults.json"))
    assert said.code == 1
    assert said.out.startswith(f"FAIL memory: {tmp_path}/nowhere/faults.json: No such file or directory")


def test_changes_are_told_in_lines_alone(place: Place, path: Path) -> None:
    said = place.here("check", "--json", "--remember", str(path))
    assert (said.code, "leave out --json" in said.err) == (2, True)
