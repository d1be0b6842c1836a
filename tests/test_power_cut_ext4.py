"""The power goes under a real file system: ext4, whose device is copied while the door is at work.

What the kernel still holds in memory is not in the copy, as it would not be on a disk. Mounting the copy
replays its journal, as a start after a power cut does. Needs root and a loop device, and is skipped without.
`SIGNSPOOL_TEST_EXT4_CUTS` sets how many copies are made.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from shared.clock import Clock
from shared.record import parse_record
from shared.spool import Folder, Spool
from tests.installation import SECRET
from tests.nursery import Nursery, Process
from tests.processes import is_running, writer_of
from tests.tracedoor import make_config, until_ready, work_off
from tests.waiting import wait_until

CUTS = int(os.environ.get("SIGNSPOOL_TEST_EXT4_CUTS", "4"))
SENDERS = 8
SIZE_BYTES = 48 * 1024 * 1024


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mount an image; what is not synced stays in memory, since its journal is not written by itself."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-o", "loop,commit=300", str(image), str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no loop device may be mounted here")
    try:
        yield place
    finally:
        # Whoever still uses it does not keep it mounted after a test that failed.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    made = tmp_path / "disk.img"
    with made.open("wb") as file:
        file.truncate(SIZE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(made)], check=True)
    return made


@dataclass(slots=True)
class Senders:
    """Several connections that send callbacks until told to stop."""

    url: str
    acknowledged: list[str] = field(default_factory=list)
    """Receipt ids, in the order in which somebody read them."""
    _enough: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Senders:
        self._threads += [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, number: int) -> None:
        """Wait until so many have been acknowledged."""
        wait_until(lambda: len(self.acknowledged) >= number, "the door to answer")

    def _send(self) -> None:
        body = json.dumps({"envelopeId": 155, "action": "EXPIRED"})
        headers = {"content-type": "application/json", "x-callback-secret": SECRET}
        with httpx.Client(base_url=self.url, headers=headers, verify=False, timeout=20) as client:
            while not self._enough.is_set():
                answer = client.post("/api/callback?provider=ssign", content=body)
                assert answer.status_code == 200
                self.acknowledged.append(answer.json()["id"])


def cut(process: Process, image: Path, copy: Path) -> None:
    """Copy what is on the disk at one moment: while it is copied the door and its writer stand still between
    two calls."""
    pids = [process.pid, writer_of(process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    while {task.read_text().rpartition(")")[2].split()[0] for task in tasks} != {"T"}:
        time.sleep(0.001)
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def cuts(nursery: Nursery, home: Path, image: Path, *, durability: str) -> list[tuple[Path, set[str]]]:
    """Let a door work and cut its power several times; returns copies of the disk, each with what had been
    acknowledged by then."""
    found = []
    with mounted(image, home / "disk") as disk:
        config, url = make_config(home, durability=durability, root=disk / "root")
        Spool(disk / "root", Clock()).initialise()
        process = nursery.start(["api", "--config", str(config)], home / "api.log")
        try:
            until_ready(url)
            writer = writer_of(process.pid)
            with Senders(url) as senders:
                for number in range(CUTS):
                    senders.wait_for(len(senders.acknowledged) + 1 + 7 * number)
                    acknowledged = set(senders.acknowledged)
                    cut(process, image, home / f"{number}.img")
                    found.append((home / f"{number}.img", acknowledged))
        finally:
            process.kill()
        wait_until(lambda: not is_running(writer), "the writer to end after its door")
    return found


def test_every_acknowledged_callback_is_on_the_disk_whenever_the_power_goes(
    nursery: Nursery, tmp_path: Path, image: Path, migrated_file: Path
) -> None:
    for copy, acknowledged in cuts(nursery, tmp_path, image, durability="full"):
        home = copy.with_suffix("")
        with mounted(copy, home):
            for entry in (spool := Spool(home / "root", Clock())).entries(Folder.SPOOL):
                parse_record(spool.read(Folder.SPOOL, entry))
            daemons = copy.with_suffix(".daemon")
            daemons.mkdir()
            shutil.copyfile(migrated_file, daemons / "signspool.db")
            config, _ = make_config(daemons, root=home / "root")
            recorded, _ = work_off(config)
            assert acknowledged <= set(recorded)
            assert len(recorded) == len(set(recorded)) == sum(1 for _ in spool.entries(Folder.DONE))


def test_a_careless_door_loses_callbacks_on_this_disk_too(
    nursery: Nursery, tmp_path: Path, image: Path
) -> None:
    """Otherwise the copies would hold more than a disk does. All are lost, unless somebody else has every
    file system of the machine written out meanwhile."""
    with ExitStack() as disks:
        lost = set()
        for copy, acknowledged in cuts(nursery, tmp_path, image, durability="rename-only"):
            home = disks.enter_context(mounted(copy, copy.with_suffix("")))
            files = (home / "root" / "spool").rglob("*.json")
            whole = {path.stem.rpartition("_")[2] for path in files if path.stat().st_size}
            lost |= acknowledged - whole
        assert lost
