"""An installation whose tiers die where they are told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from shared.spool import Folder
from simulator.world import World
from tests.installation import Installation
from tests.nursery import Fault, Nursery
from tests.steps import Point


class Mortal(Installation):
    """An installation with tiers that die at named points."""

    def __init__(self, home: Path, peers: str, database_url: URL, nursery: Nursery) -> None:
        super().__init__(home, peers, database_url, nursery=nursery)
        (home / "archive").mkdir()
        self._deaths = 0

    def die_at(self, tier: str, point: Point, *, or_rest: bool = False) -> None:
        """Run a tier until it comes to a point, where it dies; or, if that is allowed, has nothing to do."""
        self._deaths += 1
        hit = self.home / f"hit-{self._deaths}"
        fault = Fault(point.module, point.name, point.when, point.nth, str(hit))
        process = self.bear(tier, fault=fault)
        try:
            self.wait(
                lambda: not process.is_running() or (or_rest and self.is_at_rest()),
                f"{tier} to die at {point}",
            )
        finally:
            process.kill()
        assert or_rest or hit.exists(), f"{tier} ended, and not at {point}: {self.log(tier)[-3000:]}"

    def what_is_owed(self, document_id: str) -> list[dict[str, Any]]:
        """What a document of S-SIGN still owes, as `signspool documents show` tells it."""
        shown = self.show("ssign", document_id)
        return [item for item in (*shown["owed"], *shown["deliveries"]) if item["state"] != "done"]

    def has_done_what_it_can(self, document_id: str) -> bool:
        """Whether a document of S-SIGN owes nothing but what is held, and what waits for that."""
        if not self.knows("ssign", document_id):
            return False
        left = self.what_is_owed(document_id)
        held = any(item["state"] == "held" for item in left)
        return all(item["state"] == "held" or (held and item["task"] == "advance") for item in left)

    def is_at_rest(self) -> bool:
        """Whether no entry is left in `spool/` or `deferred/`."""
        return not self.count(Folder.SPOOL) and not self.count(Folder.DEFERRED)


def assert_nothing_lost_or_doubled(
    installation: Mortal, world: World, envelope_id: int, acknowledged: set[str]
) -> set[str]:
    """Hold the promises against what became of an envelope that was completed; returns the tasks that are
    held."""
    flow = str(envelope_id)
    shown = installation.show("ssign", flow)
    assert shown["status"] == "completed"
    assert sum(event["outcome"] == "applied" for event in shown["events"]) == 1
    recorded = Counter(event["receipt_id"] for event in shown["events"])
    assert set(recorded.values()) == {1}
    assert acknowledged <= recorded.keys()

    attachments = [
        found.file.sha256 for found in world.smartshare.attachments if found.values["cdFluxo"] == flow
    ]
    steps = [found for found in world.smartshare.advances if found["cdFluxo"] == flow]
    assert len(attachments) <= 1, "a file was delivered twice"
    assert len(steps) <= 1, "a workflow was advanced twice"
    archived = [path.suffix for path in (installation.home / "archive" / "ssign" / flow).iterdir()]
    assert sorted(archived) == [".json", ".pdf"], (
        "the archive has more or less than the file and its description"
    )

    left = installation.what_is_owed(flow)
    held = {item["task"] for item in left if item["state"] == "held"}
    assert len(attachments) == 1 or "deliver" in held
    assert len(steps) == 1 or held
    assert all(item["state"] == "held" or item["task"] == "advance" for item in left)
    places = {
        receipt_id: [folder for folder, _ in installation.spool.find(receipt_id)] for receipt_id in recorded
    }
    assert all(len(found) == 1 for found in places.values()), f"not in exactly one folder: {places}"
    put_aside = [receipt_id for receipt_id, found in places.items() if found != [Folder.DONE]]
    assert [places[receipt_id] for receipt_id in put_aside] == [[Folder.QUARANTINE]] * bool(held)
    return held
