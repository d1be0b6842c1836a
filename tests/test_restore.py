"""What was saved under load by the documented commands is restored by them, and what came since put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from processor.chain import Chain
from shared.db.session import Database
from shared.names import guid_in
from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.deploy.pages import commands
from tests.installation import Installation
from tests.nursery import REPOSITORY, Nursery, Process
from tests.waiting import PATIENCE_SECONDS

_PRELUDE = """
set -eu
signspool() { "$PYTHON" -m signspool "$@" --config "$CONFIG"; }
systemd-tmpfiles() { install --directory --mode=0750 "$ROOT"; }
systemctl() {
    if [ "$1" = start ]; then return; fi
    shift
    for unit in "$@"; do
        for process in $(cat "$HOME/$unit.pid" 2>/dev/null); do
            kill "$process" 2>/dev/null || continue
            while grep -qs '^State:.[^ZX]' "/proc/$process/status"; do sleep 0.05; done
        done
    done
}
"""
"""What stands for the parts of a machine that a test has not: its service manager and its own places."""


class Machine(Installation):
    """An installation whose pages' commands are typed in folders of the test."""

    tiers: dict[str, Process]

    def begin(self, nursery: Nursery, *tiers: str) -> None:
        """Start tiers, known to `systemctl`."""
        for tier in tiers:
            started = nursery.start([tier, "--config", str(self.config)], self.home / f"{tier}.log")
            self.tiers[tier] = started
            for unit in (f"signspool-{tier}", f"signspool-{tier}.service"):
                (self.home / f"{unit}.pid").write_text(str(started.pid))
        self.wait(self.is_ready, "the door to be ready")

    def types(self, heading: str, before: str = "") -> None:
        """Type all commands below a heading."""
        script = before + "\n".join(commands(heading))
        for place, here in (
            ("/var/lib/signspool", str(self.spool.root)),
            ("/var/backups", str(self.home / "backups")),
            ("--directory=/etc", f"--directory={self.home / 'etc'}"),
        ):
            script = script.replace(place, here)
        environ = {"HOME": str(self.home), "ROOT": str(self.spool.root), "CONFIG": str(self.config)}
        done = subprocess.run(
            ["bash", "-c", _PRELUDE + script],
            env={**os.environ, **environ, "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def lies_in(self, folder: Folder) -> set[str]:
        """The receipts of what lies in a folder."""
        return {guid_in(entry.name) or entry.name for entry in self.spool.entries(folder)}


class Load:
    """Sends callbacks one after the other, each of a document of its own, until the end of the block."""

    def __init__(self, machine: Machine) -> None:
        self.acknowledged: dict[str, str] = {}
        self._machine = machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        number = 50_000
        while not self._stop.wait(0.01):
            number += 1
            answer = self._machine.post("ssign", {"envelopeId": number, "action": "PENDING"})
            assert answer.status_code == 200, answer.text
            self.acknowledged[str(number)] = answer.json()["id"]

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)


@pytest.fixture
def world() -> Iterator[tuple[World, str]]:
    with SimulatorServer() as server:
        yield server.world, server.url


def test_a_backup_taken_under_load_is_restored_and_what_came_since_is_put_back(
    tmp_path: Path, nursery: Nursery, world: tuple[World, str]
) -> None:
    """All that was acknowledged before the copy is there at once, and all of the rest afterwards."""
    if shutil.which("bash") is None or shutil.which("tar") is None:
        pytest.skip("bash or tar is not installed")
    peers, url = world
    (tmp_path / "archive").mkdir()
    (tmp_path / "etc" / "signspool").mkdir(parents=True)
    (tmp_path / "etc" / "signspool" / "signspool.toml").write_text("# as it was")
    database = URL.create("sqlite", database=str(tmp_path / "root" / "signspool.db"))
    machine = Machine(tmp_path, url, database)
    machine.tiers = {}
    try:
        machine.begin(nursery, "api", "processor")
        envelope = peers.ssign.send(files=1)
        machine.register("ssign", envelope.id, {}, file_ids=",".join(map(str, envelope.file_ids)))
        with Load(machine) as load:
            machine.wait(lambda: len(load.acknowledged) > 20, "callbacks before the copy")
            before = dict(load.acknowledged)
            machine.types("Save")
            at_copy = len(load.acknowledged)
            machine.begin(nursery, "processor")
            machine.wait(lambda: len(load.acknowledged) > at_copy + 20, "callbacks after the copy")
        machine.wait_until_settled()
        assert len(before) < at_copy, "nothing came while the copy was made"
        machine.tiers["api"].kill()
        machine.database.close()

        (tmp_path / "etc" / "signspool" / "signspool.toml").unlink()
        [folder] = (tmp_path / "backups").iterdir()
        with tarfile.open(folder / "spool.tar") as copy:
            copied = {guid_in(Path(name).name) for name in copy.getnames()}
        assert set(before.values()) <= copied
        assert not set(load.acknowledged.values()) <= copied, "nothing has to be put back"
        machine.types("Restore", f"folder={folder}\n")
        machine.database = Database(database)
        assert (tmp_path / "etc" / "signspool" / "signspool.toml").read_text() == "# as it was"
        everywhere = machine.lies_in(Folder.SPOOL) | machine.lies_in(Folder.DONE)
        assert set(load.acknowledged.values()) <= everywhere

        machine.begin(nursery, "api", "processor")
        machine.wait_until_settled()
        for document_id, receipt in load.acknowledged.items():
            events = machine.show("ssign", document_id)["events"]
            assert [event["receipt_id"] for event in events] == [receipt], document_id
        assert machine.lies_in(Folder.DONE) == set(load.acknowledged.values())
        assert Chain(machine.spool).verify().faults == []
        # It goes on as before: what was registered before the copy is still known.
        assert machine.post("ssign", peers.ssign.complete(envelope.id)).status_code == 200
        machine.wait(lambda: machine.show("ssign", str(envelope.id))["status"] == "completed", "the contract")
    finally:
        for tier in machine.tiers.values():
            tier.kill()
        machine.close()
