"""Several machines with one database: each has its spool, its door, its processor, its clock and its link."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL

from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.mortal import Mortal
from tests.networks import Bridge, Gate, Link, Loopback
from tests.nursery import Nursery, Process
from tests.test_walk import dms_of

LEASE_SECONDS = 2.0
_PORT_FILE = ".s.PGSQL.5432"


class Machine(Mortal):
    """One node. Its processes see its network, its clock and its way to the database; the test sees all."""

    def __init__(
        self,
        home: Path,
        peers: str,
        database_url: URL,
        nursery: Nursery,
        *,
        link: Link,
        gate: Gate,
        lease_seconds: float = LEASE_SECONDS,
        ahead_seconds: float = 0.0,
    ) -> None:
        home.mkdir()
        super().__init__(home, peers, database_url, nursery)
        self.link = link
        self.gate = gate
        self.url = f"http://{link.address}:{self.port}"
        self.ahead_seconds = ahead_seconds
        own = database_url.render_as_string(hide_password=False).replace("+psycopg", "")
        way = database_url.set(host=gate.address, port=gate.port, query={})
        through_gate = way.render_as_string(hide_password=False).replace("+psycopg", "")
        text = self.config.read_text()
        for old, new in (
            (own, through_gate),
            ("[api]\n", f'[api]\nhost = "{link.address}"\n'),
            ("[processor]\n", f'[processor]\nlease = "{round(lease_seconds * 1000)}ms"\n'),
            # Two of them, each through a gate, are a load of their own.
            ('look_outbox = "50ms"', 'look_outbox = "300ms"'),
            (str(home / "archive"), str(home.parent / "archive")),
        ):
            assert old in text
            text = text.replace(old, new)
        self.config.write_text(text)

    def bear(self, tier: str, **options: Any) -> Process:
        prepare: dict[str, object] = {}
        if self.ahead_seconds:
            prepare["tests.networks:set_clock_ahead"] = self.ahead_seconds
        if self.link.namespace:
            prepare["tests.networks:enter"] = self.link.namespace
        arguments = [tier, "--config", str(self.config)]
        return self._nursery.start(arguments, self.home / f"{tier}.log", prepare=prepare, **options)

    def lose_power(self, *tiers: str) -> None:
        """Everything on it ends at once, and nobody hears of it."""
        self.link.cut()
        self.gate.shut()
        for tier in tiers:
            self.kill(tier)

    def return_to_life(self, *tiers: str) -> None:
        """Link and tiers are there again."""
        self.link.join()
        self.gate.unbar()
        self.start(*tiers)

    def close(self) -> None:
        super().close()
        self.gate.close()


class Site:
    """All machines, and what became of an envelope on whichever of them."""

    def __init__(self, machines: Sequence[Machine], world: World, home: Path) -> None:
        self.machines = machines
        self.world = world
        self.home = home

    @property
    def any(self) -> Machine:
        """One of them, to look into the database: the test's own way there is never cut."""
        return self.machines[0]

    def places(self, text: str) -> list[tuple[Machine, Folder]]:
        """Where entries lie whose name contains a text."""
        return [(machine, folder) for machine in self.machines for folder, _ in machine.spool.find(text)]

    def sign(self) -> tuple[int, dict[str, object]]:
        """An envelope that everybody has signed, registered; returns its id and the body of the callback."""
        envelope = self.world.ssign.send()
        file_ids = ",".join(map(str, envelope.file_ids))
        self.any.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
        return envelope.id, dict(self.world.ssign.complete(envelope.id))

    def is_at_rest(self) -> bool:
        return all(machine.is_at_rest() for machine in self.machines)

    def settle(self, envelopes: Sequence[int], seconds: float = 60.0) -> None:
        """Wait until all is done that can be; what was taken for a killer is requeued, as a person would."""

        def is_settled() -> bool:
            for machine in self.machines:
                for entry in list(machine.spool.entries(Folder.QUARANTINE)):
                    reason = machine.spool.reason(entry) or {}
                    if "when the processor was killed" in reason.get("reason", ""):
                        machine.spool.move(entry, Folder.QUARANTINE, Folder.SPOOL)
            return self.is_at_rest() and all(
                self.any.has_done_what_it_can(flow) and self._is_put_aside(flow) == self._is_held(flow)
                for flow in map(str, envelopes)
            )

        self.any.wait(is_settled, "everything to be done", seconds)

    def _is_put_aside(self, flow: str) -> bool:
        """Whether an entry of the envelope lies in quarantine; it leaves it a moment after its last task."""
        entries = (entry for machine in self.machines for entry in machine.spool.entries(Folder.QUARANTINE))
        return any(entry.name.startswith(f"{flow}_") for entry in entries)

    def _is_held(self, flow: str) -> bool:
        return any(item["state"] == "held" for item in self.any.what_is_owed(flow))

    def assert_nothing_lost_or_doubled(self, envelope_id: int, acknowledged: set[str]) -> set[str]:
        """Hold the promises against what became of a completed envelope; returns the tasks that are held."""
        flow = str(envelope_id)
        shown = self.any.show("ssign", flow)
        assert shown["status"] == "completed"
        assert sum(event["outcome"] == "applied" for event in shown["events"]) == 1
        recorded = Counter(event["receipt_id"] for event in shown["events"])
        assert set(recorded.values()) == {1}
        assert acknowledged <= recorded.keys(), "an acknowledged callback is not recorded"

        smartshare = self.world.smartshare
        attached = sum(found.values["cdFluxo"] == flow for found in smartshare.attachments)
        steps = sum(found["cdFluxo"] == flow for found in smartshare.advances)
        assert attached <= 1, "a file was delivered twice"
        assert steps <= 1, "a workflow was advanced twice"
        archived = sorted(path.suffix for path in (self.home / "archive" / "ssign" / flow).iterdir())
        assert archived == [".json", ".pdf"], "the archive has not just the file and its description"

        left = self.any.what_is_owed(flow)
        held = {item["task"] for item in left if item["state"] == "held"}
        assert all(item["state"] == "held" or item["task"] == "advance" for item in left)
        assert attached == 1 or "deliver" in held
        assert steps == 1 or held
        places = {receipt_id: [folder for _, folder in self.places(receipt_id)] for receipt_id in recorded}
        assert all(len(found) == 1 for found in places.values()), f"not in exactly one folder: {places}"
        aside = [found for found in places.values() if found != [Folder.DONE]]
        assert aside == [[Folder.QUARANTINE]] * bool(held)
        return held


class Balancer(threading.Thread):
    """A load balancer with a provider behind it whose envelopes are signed all the time.

    Each callback goes to any of the doors; one that is not acknowledged goes to the next, and some go to all,
    as a provider's that has not heard the answer.
    """

    def __init__(self, site: Site, seed: int, longest_pause_seconds: float = 0.6) -> None:
        super().__init__(name="balancer", daemon=True)
        self._site = site
        self._chance = random.Random(seed)
        self._longest_pause_seconds = longest_pause_seconds
        self.enough = threading.Event()
        self.acknowledged: dict[int, set[str]] = {}
        """The receipt ids of every 200, by envelope."""

    def run(self) -> None:
        with httpx.Client(timeout=2.0, verify=False) as client:
            while not self.enough.wait(self._chance.random() * self._longest_pause_seconds):
                envelope_id, body = self._site.sign()
                receipts = self.acknowledged[envelope_id] = set()
                to_hear = 1 + (self._chance.random() < 0.3)
                doors = list(self._site.machines)
                self._chance.shuffle(doors)
                while len(receipts) < to_hear:
                    door = doors[0]
                    doors = [*doors[1:], door]
                    receipts |= self._send(client, door, body)

    @staticmethod
    def _send(client: httpx.Client, door: Machine, body: dict[str, object]) -> set[str]:
        try:
            answer = client.post(
                f"{door.url}/api/callback",
                params={"provider": "ssign"},
                json=body,
                headers={"x-callback-secret": "a-secret-of-the-test"},
            )
        except httpx.TransportError:
            time.sleep(0.02)
            return set()
        assert answer.status_code in (200, 503)
        return {answer.json()["id"]} if answer.status_code == 200 else set()

    def end(self) -> None:
        """No more envelopes; what was begun is acknowledged."""
        self.enough.set()
        self.join(60)
        assert not self.is_alive(), "a callback finds no door"


@contextmanager
def two_machines(
    home: Path, network: Bridge | Loopback, database_url: URL, nursery: Nursery, **options: Sequence[float]
) -> Iterator[Site]:
    """Two machines that nothing runs on yet; `options` of a machine are given for each."""
    socket = str(Path(str(database_url.query["host"])) / _PORT_FILE)
    with ExitStack() as stack:
        server = stack.enter_context(SimulatorServer(host=network.address))
        machines = []
        for number in range(2):
            link = network.link(number + 1)
            made = Machine(
                home / f"machine{number + 1}",
                server.url,
                database_url,
                nursery,
                link=link,
                gate=Gate(network.address, socket),
                **{name: values[number] for name, values in options.items()},
            )
            stack.callback(made.close)
            machines.append(made)
        (home / "archive").mkdir()
        yield Site(machines, server.world, home)
