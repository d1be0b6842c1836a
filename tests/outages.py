"""An installation that is called all the time while its database falls ill."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL

from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.installation import SECRET, Installation
from tests.test_walk import dms_of
from tests.waiting import PATIENCE_SECONDS

OUTAGE_SECONDS = float(os.environ.get("SIGNSPOOL_TEST_OUTAGE_SECONDS", "6"))
"""How long the longer outages last: at least as long as the daemon waits for another's lock."""
GRACE_SECONDS = 1
AWAY, BACK = "processor.unavailable", "processor.available"
CALLBACKS_PER_SECOND = 20
ENVELOPES = 40


class Caller(threading.Thread):
    """A provider that calls some twenty times a second, until told to stop; about once a second a document is
    completed, so that there is something to fetch and to deliver."""

    def __init__(self, installation: Installation, world: World, completions: list[int]) -> None:
        super().__init__(daemon=True)
        self._url = installation.url
        self._world = world
        self._completions = completions
        self._ended = threading.Event()
        self.receipts: dict[str, str] = {}
        """Receipt id to document id, for every 200."""
        self.refusals: list[str] = []

    def run(self) -> None:
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            for number in itertools.count():
                if self._ended.wait(1 / CALLBACKS_PER_SECOND):
                    return
                self._call(client, self._body(number))

    def end(self) -> None:
        self._ended.set()
        self.join(PATIENCE_SECONDS)

    def _body(self, number: int) -> dict[str, Any]:
        if number % CALLBACKS_PER_SECOND == 0 and self._completions:
            return dict(self._world.ssign.complete(self._completions.pop()))
        return {"envelopeId": 1_000_000 + number, "action": "PENDING"}

    def _call(self, client: httpx.Client, body: dict[str, Any]) -> None:
        try:
            answer = client.post(
                f"{self._url}/api/callback?provider=ssign", json=body, headers={"x-callback-secret": SECRET}
            )
        except httpx.HTTPError as error:
            self.refusals.append(repr(error))
            return
        if answer.status_code == 200:
            self.receipts[answer.json()["id"]] = str(body["envelopeId"])
        else:
            self.refusals.append(answer.text)


class Scene:
    """An installation, and a provider that calls it all the time."""

    def __init__(self, home: Path, peers: SimulatorServer, url: URL) -> None:
        (home / "archive").mkdir()
        self.world = peers.world
        self.installation = Installation(home, peers.url, url)
        config = self.installation.config
        settings = config.read_text().replace("[processor]", f'[processor]\ngrace = "{GRACE_SECONDS}s"')
        # Nothing here waits for a look, and twenty of them a second cost more than the rest.
        config.write_text(settings.replace('look_outbox = "50ms"', 'look_outbox = "500ms"'))
        self.envelopes = [self.world.ssign.send() for _ in range(ENVELOPES)]
        for envelope in self.envelopes:
            file_ids = ",".join(map(str, envelope.file_ids))
            self.installation.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
        self.installation.database.close()
        self.caller = Caller(self.installation, self.world, [envelope.id for envelope in self.envelopes])

    def log(self, since: int = 0) -> str:
        return self.installation.log("processor")[since:]

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Make the database sick inside the block, and healthy at its end."""
        since = len(self.log())
        yield
        waiting = set(self.caller.receipts)
        self.installation.wait(lambda: BACK in self.log(since), "the daemon to be back", 45)
        self.wait_until_recorded(waiting)
        said = self.log(since)
        assert (said.count(AWAY), said.count(BACK)) == (1, 1), said
        assert "entry.quarantined" not in said
        assert self.caller.refusals == []

    def wait_until_away(self) -> None:
        since = self.log().rfind(BACK)
        self.wait(lambda: AWAY in self.log(max(since, 0)), "the daemon to say that the database is away")

    def wait_until_recorded(self, receipts: set[str]) -> None:
        """Wait until none of these entries lies in `spool/`."""

        def waiting() -> bool:
            names = [entry.name for entry in self.installation.spool.entries(Folder.SPOOL)]
            return any(receipt in name for name in names for receipt in receipts)

        self.wait(lambda: not waiting(), "what came in meanwhile to be recorded")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        self.installation.wait(condition, what)

    def stop_processor(self) -> None:
        """SIGTERM to the processor; it ends well, and not later than it is permitted to."""
        began = time.monotonic()
        assert self.installation.stop("processor") == 0, self.log()[-2000:]
        # Five seconds for what takes no orders, as SQLite that waits for a lock; the rest for a machine
        # that has much else to do.
        assert time.monotonic() - began < GRACE_SECONDS + 30

    def assert_all_is_well(self) -> None:
        """Nothing is lost, nothing is doubled, nobody is charged."""
        self.caller.end()
        assert self.caller.refusals == []
        self.installation.wait_until_settled()
        completed = [envelope for envelope in self.envelopes if str(envelope.id) in self._called()]
        assert len(completed) > 3
        recorded = Counter[str]()
        for envelope in completed:
            shown = self.installation.show("ssign", str(envelope.id))
            assert shown["status"] == "completed"
            assert len(shown["events"]) == 1
            assert {item["state"] for item in shown["deliveries"]} == {"done"}
            assert {item["attempts"] for item in shown["deliveries"]} == {1}, shown["deliveries"]
        with self.installation.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT receipt_id FROM events")
            recorded.update(receipt for (receipt,) in rows)
        assert recorded == Counter(self.caller.receipts.keys())
        uploads = Counter(found.values["cdFluxo"] for found in self.world.smartshare.attachments)
        steps = Counter(str(found["cdFluxo"]) for found in self.world.smartshare.advances)
        once = {str(envelope.id): 1 for envelope in completed}
        assert (dict(uploads), dict(steps)) == (once, once)
        archived = (self.installation.home / "archive").rglob("*.pdf")
        assert len(list(archived)) == len(completed)
        assert self.installation.count(Folder.QUARANTINE) == 0

    def _called(self) -> set[str]:
        return set(self.caller.receipts.values())

    def close(self) -> None:
        self.caller.end()
        self.installation.close()
