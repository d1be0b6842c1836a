"""The door, or its writer, is killed right before every operation on its files, and before its answer; then
nothing is lost.

The kernel does it, by way of strace, so that the door knows nothing of it and no step has to be listed: the
steps are those of a door that was watched.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from shared.clock import Clock
from shared.spool import Folder, Spool
from tests.doorsteps import DoorStep, died_before, steps_of
from tests.installation import SECRET
from tests.nursery import Nursery, Process
from tests.processes import writer_of
from tests.tracedoor import make_config, until_ready, work_off
from tests.tracing import WATCHING, attached, traced
from tests.waiting import PATIENCE_SECONDS


class Door:
    """A door with a spool of its own."""

    def __init__(self, home: Path, nursery: Nursery, migrated_file: Path) -> None:
        home.mkdir()
        self.home = home
        self.config, self.url = make_config(home)
        self.spool = Spool(home / "root", Clock())
        self.spool.initialise()
        shutil.copyfile(migrated_file, home / "signspool.db")
        self._nursery = nursery

    def open(self) -> Process:
        process = self._nursery.start(["api", "--config", str(self.config)], self.home / "api.log")
        until_ready(self.url)
        return process

    def ask(self) -> httpx.Response:
        """Send a callback."""
        return httpx.post(
            f"{self.url}/api/callback?provider=ssign",
            content=json.dumps({"envelopeId": 155, "action": "EXPIRED"}),
            headers={"content-type": "application/json", "x-callback-secret": SECRET},
            verify=False,
            timeout=PATIENCE_SECONDS,
        )

    def post(self) -> str:
        """Send a callback; returns the receipt id of the 200."""
        answer = self.ask()
        assert answer.status_code == 200
        receipt_id: str = answer.json()["id"]
        return receipt_id


def watch(door: Door) -> list[DoorStep]:
    """The steps of the first callback of a day."""
    process = door.open()
    with traced(process, door.home / "trace"):
        receipt_id = door.post()
        process.kill()
    return steps_of((door.home / "trace").read_text(), door.spool.root, receipt_id, process.pid)


def test_a_door_killed_at_any_of_its_steps_loses_nothing(
    nursery: Nursery, tmp_path: Path, migrated_file: Path
) -> None:
    """Nobody was told 200, so the sender comes again; the second copy, if there is one, changes nothing.

    Most steps are those of its writer, which is then killed alone: the door goes on with another.
    """
    steps = watch(Door(tmp_path / "watched", nursery, migrated_file))
    kinds = {step.what.split()[0] for step in steps}
    assert kinds >= {"MakeFolder", "MakeFile", "Write", "Sync", "Rename", "Answer"}
    assert [step.what for step in steps if step.of_door] == ["Answer"]
    for number, step in enumerate(steps):
        door = Door(tmp_path / f"{number}", nursery, migrated_file)
        process = door.open()
        # Of the door's threads the main one is traced alone: others may make such calls too.
        victim = process.pid if step.of_door else writer_of(process.pid)
        with attached([victim], door.home / "trace", *WATCHING, "-e", step.inject, threads=False):
            if step.of_door:
                with pytest.raises(httpx.TransportError):
                    door.post()
                assert process.wait(), step
            else:
                assert door.ask().status_code == 503, step
        assert died_before((door.home / "trace").read_text(), door.spool.root) == step.what
        left = list(door.spool.temporary.rglob("*.json"))
        process = door.open() if step.of_door else process
        acknowledged = door.post()
        assert not [path for path in left if path.exists()], f"{step}: something of the dead is left"
        process.kill()
        assert_recorded(door, acknowledged, step)


def assert_recorded(door: Door, acknowledged: str, step: DoorStep) -> None:
    """What the dead left is harmless."""
    recorded, spool = work_off(door.config)
    assert acknowledged in recorded
    assert len(recorded) == len(set(recorded)) <= 2
    folders = [folder for folder in Folder for _ in spool.entries(folder)]
    assert folders == [Folder.DONE] * len(recorded), f"{step}: {folders}"
