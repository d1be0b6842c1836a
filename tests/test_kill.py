"""Both tiers are killed at random moments under load, the door also without its writer, and the writer alone;
then nothing is lost and nothing is doubled.

`SIGNSPOOL_TEST_KILLS` sets how many kills there are for each database, `SIGNSPOOL_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import writers_of
from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.mortal import Mortal, assert_nothing_lost_or_doubled
from tests.nursery import Nursery
from tests.test_walk import dms_of
from tests.waiting import PATIENCE_SECONDS

KILLS = int(os.environ.get("SIGNSPOOL_TEST_KILLS", "4"))
SEED = int(os.environ.get("SIGNSPOOL_TEST_SEED", "20261122"))
LONGEST_LIFE_SECONDS = 0.8
LONGEST_PAUSE_SECONDS = 0.2
VICTIMS = (
    ["api"],
    ["door alone"],
    ["writer"],
    ["processor"],
    ["processor"],
    ["writer", "processor"],
    ["api", "processor"],
)
"""What dies together; the processor, which does most of the work, more often."""


@pytest.fixture(params=["sqlite", "postgresql"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[tuple[Mortal, World]]:
    with SimulatorServer() as server, make_database(request.param, tmp_path, request) as url:
        made = Mortal(tmp_path, server.url, url, nursery)
        yield made, server.world
        made.close()


class Sender(threading.Thread):
    """A provider whose envelopes are signed all the time, and that tells of each until it hears 200, and of
    some of them again."""

    def __init__(self, installation: Mortal, world: World, seed: int) -> None:
        super().__init__(daemon=True)
        self._installation = installation
        self._world = world
        self._chance = random.Random(seed)
        self.enough = threading.Event()
        self.acknowledged: dict[int, set[str]] = {}
        """The receipt ids of every 200, by envelope."""

    def run(self) -> None:
        while not self.enough.wait(self._chance.random() * LONGEST_PAUSE_SECONDS):
            envelope = self._world.ssign.send()
            file_ids = ",".join(map(str, envelope.file_ids))
            self._installation.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
            body = dict(self._world.ssign.complete(envelope.id))
            times = 1 + (self._chance.random() < 0.3)
            self.acknowledged[envelope.id] = {self._send(body) for _ in range(times)}

    def _send(self, body: dict[str, object]) -> str:
        while True:
            try:
                answer = self._installation.post("ssign", body)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                receipt_id: str = answer.json()["id"]
                return receipt_id
            assert answer.status_code == 503


@pytest.mark.timeout(300 + 4 * KILLS)
def test_kills_at_random_moments_lose_nothing_and_double_nothing(scene: tuple[Mortal, World]) -> None:
    installation, world = scene
    chance = random.Random(SEED)
    installation.start("api", "processor")
    sender = Sender(installation, world, SEED)
    sender.start()
    for _ in range(KILLS):
        # A life is short or long, so that starting is hit as well as working.
        sender.join(chance.random() ** 2 * LONGEST_LIFE_SECONDS)
        assert sender.is_alive()
        for victim in chance.choice(VICTIMS):
            strike(installation, victim)
    sender.enough.set()
    sender.join(PATIENCE_SECONDS)
    assert not sender.is_alive()
    settle(installation, sender.acknowledged)
    for envelope_id, receipts in sender.acknowledged.items():
        assert_nothing_lost_or_doubled(installation, world, envelope_id, receipts)
    acknowledged = set().union(*sender.acknowledged.values())
    stored = {entry.name for folder in Folder for entry in installation.spool.entries(folder)}
    assert all(any(receipt in name for name in stored) for receipt in acknowledged)


def strike(installation: Mortal, victim: str) -> None:
    """Kill a tier, or one process of the door, and start what nobody else starts again."""
    match victim:
        case "writer":
            for pid in writers_of(installation.pid("api")):
                os.kill(pid, signal.SIGKILL)
        case "door alone":
            installation.kill("api", alone=True)
            installation.start("api")
        case _:
            installation.kill(victim)
            installation.start(victim)


def settle(installation: Mortal, envelopes: dict[int, set[str]]) -> None:
    """Wait until all is done that can be; what was taken for a killer is requeued, as a person would."""

    def is_at_rest() -> bool:
        for entry in list(installation.spool.entries(Folder.QUARANTINE)):
            reason = installation.spool.reason(entry) or {}
            if "when the processor was killed" in reason.get("reason", ""):
                installation.spool.move(entry, Folder.QUARANTINE, Folder.SPOOL)
        return installation.is_at_rest() and all(
            installation.has_done_what_it_can(str(envelope_id)) for envelope_id in envelopes
        )

    installation.wait(is_at_rest, "everything to be done", 60 + KILLS)
