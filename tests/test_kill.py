"""Both tiers are killed at random moments under load; then nothing is lost and nothing is doubled.

`SIGNSPOOL_TEST_KILLS` sets how many kills there are for each database, `SIGNSPOOL_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.installation import Installation
from tests.test_walk import dms_of

KILLS = int(os.environ.get("SIGNSPOOL_TEST_KILLS", "4"))
SEED = int(os.environ.get("SIGNSPOOL_TEST_SEED", "20261122"))
ENVELOPES = 40


@pytest.fixture(params=["sqlite", "postgresql"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Installation, World]]:
    (tmp_path / "archive").mkdir()
    with SimulatorServer() as server, make_database(request.param, tmp_path, request) as url:
        made = Installation(tmp_path, server.url, url)
        yield made, server.world
        made.close()


class Sender(threading.Thread):
    """A provider that sends each callback until it is answered 200, and then some of them again."""

    def __init__(
        self, installation: Installation, bodies: list[dict[str, object]], chance: random.Random
    ) -> None:
        super().__init__(daemon=True)
        self._installation = installation
        self._bodies = bodies
        self._chance = chance
        self.acknowledged: dict[str, str] = {}
        """Receipt id to envelope id, for every 200."""

    def run(self) -> None:
        for body in self._bodies:
            for _ in range(1 + (self._chance.random() < 0.3)):
                self._send(body)
            time.sleep(self._chance.random() * 0.05)

    def _send(self, body: dict[str, object]) -> None:
        while True:
            try:
                answer = self._installation.post("ssign", body)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                self.acknowledged[answer.json()["id"]] = str(body["envelopeId"])
                return
            time.sleep(0.05)


def test_kills_at_random_moments_lose_nothing_and_double_nothing(scene: tuple[Installation, World]) -> None:
    installation, world = scene
    chance = random.Random(SEED)
    envelopes = [world.ssign.send() for _ in range(ENVELOPES)]
    for envelope in envelopes:
        file_ids = ",".join(map(str, envelope.file_ids))
        installation.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
    bodies = [dict(world.ssign.complete(envelope.id)) for envelope in envelopes]
    installation.start("api", "processor")
    sender = Sender(installation, bodies, chance)
    sender.start()
    for _ in range(KILLS):
        time.sleep(chance.random() * 0.8)
        tier = chance.choice(["api", "processor", "processor"])
        installation.kill(tier)
        installation.start(tier)
    sender.join(60)
    assert not sender.is_alive()
    installation.wait_until_settled(60)

    assert set(sender.acknowledged.values()) == {str(e.id) for e in envelopes}
    uploads = Counter((found.values["cdFluxo"], found.file.sha256) for found in world.smartshare.attachments)
    assert not [key for key, times in uploads.items() if times > 1], "a file was delivered twice"
    steps = Counter(found["cdFluxo"] for found in world.smartshare.advances)
    assert not [key for key, times in steps.items() if times > 1], "a workflow was advanced twice"

    recorded = set()
    for envelope in envelopes:
        shown = installation.show("ssign", str(envelope.id))
        assert shown["status"] == "completed"
        recorded |= {event["receipt_id"] for event in shown["events"]}
        assert sum(event["outcome"] == "applied" for event in shown["events"]) == 1
        archived = (installation.home / "archive" / "ssign" / str(envelope.id)).rglob("*.pdf")
        assert len(list(archived)) == 1
        for item in shown["deliveries"]:
            # What was in the middle of being sent may be held; what is done arrived.
            assert item["state"] in ("done", "held", "due"), item
            if item["state"] == "done" and item["destination"] == "smartshare":
                flow = str(envelope.id)
                upload = item["task"] == "deliver"
                assert (uploads[flow, item["sha256"]] if upload else steps[flow]) == 1
    assert sender.acknowledged.keys() <= recorded

    names = Counter(entry.name for folder in Folder for entry in installation.spool.entries(folder))
    assert not [name for name, times in names.items() if times > 1], "an entry lies in two folders"
    assert all(any(receipt in name for name in names) for receipt in sender.acknowledged)
