"""Two machines with one PostgreSQL: whatever becomes of one of them, nothing is lost and nothing is doubled.

Each has a network namespace where those can be had; else all use the loopback address. `SIGNSPOOL_TEST_NODES`
sets how many troubles strike at random, `SIGNSPOOL_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from shared.db.models import OutboxRow, State
from shared.spool import Folder
from simulator.weather import Storm, StormKind
from tests.conftest import make_database
from tests.machines import LEASE_SECONDS, Balancer, Machine, Site, two_machines
from tests.networks import Bridge, Loopback, network, why_no_namespaces
from tests.nursery import Nursery

TROUBLES = int(os.environ.get("SIGNSPOOL_TEST_NODES", "0"))
SEED = int(os.environ.get("SIGNSPOOL_TEST_SEED", "20261122"))
TAKEOVER_SECONDS = 45.0
"""Within which a standby has to be at work, on a machine that has much else to do."""


@pytest.fixture(scope="session")
def no_namespaces() -> str:
    return why_no_namespaces()


@pytest.fixture
def wires(no_namespaces: str) -> Iterator[Bridge | Loopback]:
    with network(with_namespaces=not no_namespaces) as made:
        yield made


@pytest.fixture
def database_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    with make_database("postgresql", tmp_path, request) as url:
        yield url


@pytest.fixture
def site(tmp_path: Path, wires: Bridge | Loopback, database_url: Any, nursery: Nursery) -> Iterator[Site]:
    with two_machines(tmp_path, wires, database_url, nursery) as made:
        yield made


@pytest.fixture
def calm_site(
    tmp_path: Path, wires: Bridge | Loopback, database_url: Any, nursery: Nursery
) -> Iterator[Site]:
    """Where no lease runs out because a machine has much else to do."""
    with two_machines(tmp_path, wires, database_url, nursery, lease_seconds=(60.0, 60.0)) as made:
        yield made


def states(site: Site, envelope_id: int) -> dict[str, str]:
    """The state of everything that an envelope owed, by task and destination."""
    shown = site.any.show("ssign", str(envelope_id))
    return {
        f"{item['task']}:{item['destination']}": item["state"]
        for item in (*shown["owed"], *shown["deliveries"])
    }


# The whole


def test_a_machine_dies_under_load_and_the_other_goes_on(site: Site, no_namespaces: str) -> None:
    """Its link is cut and everything on it killed; a standby takes over on the other; it comes back and hangs
    longer than its leases; the other loses sight of the database: what was acknowledged is done once."""
    if no_namespaces:
        pytest.skip(no_namespaces)
    first, second = site.machines
    for machine in site.machines:
        machine.start("api", "processor")
    balancer = Balancer(site, SEED)
    balancer.start()
    until_settled(site, 3)

    first.lose_power("api", "processor")
    before = len(balancer.acknowledged)
    second.wait(lambda: len(balancer.acknowledged) > before + 3, "the other door to take what comes")
    standby_takes_over(second)
    first.return_to_life("api", "processor")
    with first.hanging("processor"):
        time.sleep(LEASE_SECONDS * 1.2)
    second.gate.shut()
    unrecorded = second.count(Folder.SPOOL)
    second.wait(lambda: second.count(Folder.SPOOL) > unrecorded + 2, "its door to go on without database")
    second.gate.unbar()
    strike_at_random(site, random.Random(SEED), TROUBLES)
    balancer.end()
    judge(site, balancer)


def until_settled(site: Site, count: int) -> None:
    """Wait until each machine has work behind it."""
    for machine in site.machines:
        machine.wait(lambda machine=machine: machine.count(Folder.DONE) >= count, "both to work")  # type: ignore[misc]


def standby_takes_over(machine: Machine) -> None:
    """A second processor waits on the machine's spool; the first is killed; the second records what comes."""
    waiting = machine.bear("processor")
    machine.wait(lambda: "processor.standby" in machine.log("processor"), "the second to stand by")
    machine.kill("processor")
    machine.adopt("processor", waiting)
    recorded = machine.count(Folder.DONE)
    machine.wait(lambda: machine.count(Folder.DONE) > recorded, "the standby to work", TAKEOVER_SECONDS)


def strike_at_random(site: Site, chance: random.Random, times: int) -> None:
    """Let machines lose power, hang, be cut off and have their processors killed, one after the other."""

    def power(machine: Machine) -> None:
        machine.lose_power("api", "processor")
        time.sleep(chance.random() * 2 * LEASE_SECONDS)
        machine.return_to_life("api", "processor")

    def hang(machine: Machine) -> None:
        with machine.hanging("processor"):
            time.sleep(chance.random() * 2 * LEASE_SECONDS)

    def cut(machine: Machine) -> None:
        machine.gate.shut()
        time.sleep(chance.random() * 2 * LEASE_SECONDS)
        machine.gate.unbar()

    def kill(machine: Machine) -> None:
        machine.kill("processor")
        machine.start("processor")

    troubles: tuple[Callable[[Machine], None], ...] = (power, hang, cut, kill)
    for _ in range(times):
        time.sleep(chance.random() * LEASE_SECONDS)
        chance.choice(troubles)(chance.choice(site.machines))


def judge(site: Site, balancer: Balancer) -> None:
    """Hold the promises against every envelope."""
    site.settle(list(balancer.acknowledged), 60 + 2 * TROUBLES)
    for envelope_id, receipts in balancer.acknowledged.items():
        site.assert_nothing_lost_or_doubled(envelope_id, receipts)
    assert balancer.acknowledged


# One thing at a time


def test_what_comes_in_swapped_order_at_two_doors_ends_the_same_and_a_repeat_counts_once(
    calm_site: Site,
) -> None:
    """The later callback lies at one machine, the earlier one and a repeat at the other, and both record at
    the same time."""
    site = calm_site
    first, second = site.machines
    for machine in site.machines:
        machine.start("api")
    wanted: dict[int, set[str]] = {}
    for _ in range(10):
        envelope_id, completed = site.sign()
        expired = {**completed, "action": "EXPIRED"}
        sent = ((first, completed), (second, expired), (second, completed))
        answers = [machine.post("ssign", body) for machine, body in sent]
        wanted[envelope_id] = {answer.json()["id"] for answer in answers}
    for machine in site.machines:
        machine.start("processor")
    site.settle(list(wanted))
    for envelope_id, receipts in wanted.items():
        events = site.any.show("ssign", str(envelope_id))["events"]
        said = sorted((event["action"], event["outcome"]) for event in events)
        # Completed before expired, or after it: the end is the same.
        assert said in (
            [("COMPLETED", "applied"), ("COMPLETED", "repeated"), ("EXPIRED", "late")],
            [("COMPLETED", "applied"), ("COMPLETED", "repeated"), ("EXPIRED", "applied")],
        )
        assert {event["receipt_id"] for event in events} == receipts
        assert site.any.show("ssign", str(envelope_id))["status"] == "completed"
        flow = str(envelope_id)
        assert sum(found.values["cdFluxo"] == flow for found in site.world.smartshare.attachments) == 1
        assert sum(found["cdFluxo"] == flow for found in site.world.smartshare.advances) == 1
        assert all([folder for _, folder in site.places(receipt)] == [Folder.DONE] for receipt in receipts)


def test_a_step_that_was_sent_when_its_machine_hung_is_held_and_then_done(site: Site) -> None:
    """The other may not send it again, and does not know what became of it; who sent it does, on waking."""
    first, second = site.machines
    first.start("api", "processor")
    site.world.weather.add(Storm("smartshare", StormKind.DELAY, path="AvancaFluxo", seconds=5.0))
    envelope_id, body = site.sign()
    first.post("ssign", body)
    first.wait(lambda: not site.world.weather.storms, "the step to be sent")
    with first.hanging("processor"):
        second.start("processor")
        second.wait(lambda: states(site, envelope_id)["advance:smartshare"] == "held", "the step to be held")
    first.wait(lambda: states(site, envelope_id)["advance:smartshare"] == "done", "its end to be known")
    site.settle([envelope_id])
    assert site.assert_nothing_lost_or_doubled(envelope_id, set()) == set()


def test_clocks_that_are_wrong_take_nothing_from_another_machine(
    tmp_path: Path, wires: Bridge | Loopback, database_url: Any, nursery: Nursery
) -> None:
    """Leases are counted by the database's clock: a machine ten minutes ahead sees none as run out, one that
    is behind writes none that has, and neither puts off what the other is to do."""
    skew = {"ahead_seconds": (600.0, -600.0), "lease_seconds": (60.0, 60.0)}
    with two_machines(tmp_path, wires, database_url, nursery, **skew) as site:
        ahead, behind = site.machines
        slow = Storm("smartshare", StormKind.DELAY, path="AvancaFluxo", seconds=3.0, times=2)
        site.world.weather.add(slow)
        for machine in site.machines:
            machine.start("api", "processor")
        ahead.wait(lambda: "processor.started" in ahead.log("processor"), "it to work")
        wanted = {}
        # The one behind has a step in hand when the one ahead looks; then the one ahead gets something too.
        with ahead.hanging("processor"):
            envelope_id, body = site.sign()
            wanted[envelope_id] = {behind.post("ssign", body).json()["id"]}
            sent = partial(site.world.requests_to, "smartshare", "AvancaFluxo")
            behind.wait(lambda: bool(sent()), "the step to be sent")
        envelope_id, body = site.sign()
        wanted[envelope_id] = {ahead.post("ssign", body).json()["id"]}
        site.settle(list(wanted))
        done = ("fetch:ssign", "deliver:smartshare", "deliver:archive", "advance:smartshare")
        for envelope_id, receipts in wanted.items():
            assert states(site, envelope_id) == dict.fromkeys(done, State.DONE)
            assert site.assert_nothing_lost_or_doubled(envelope_id, receipts) == set()
        for machine in site.machines:
            log = machine.log("processor")
            assert "delivery.held" not in log
            assert "delivery.lease_lost" not in log
            assert "clock.differs" in log


def test_the_files_of_a_machine_that_never_comes_back_are_fetched_again_by_another(site: Site) -> None:
    """By one command; its entries move with its disk; if it comes back after all, nothing happens twice."""
    first, second = site.machines
    first.start("api", "processor")
    site.world.weather.add(Storm("smartshare", StormKind.STATUS, times=None))
    envelope_id, body = site.sign()
    receipts = {first.post("ssign", body).json()["id"]}
    first.wait(lambda: states_if_known(site, envelope_id).get("fetch:ssign") == "done", "the file")
    first.wait(lambda: states(site, envelope_id).get("deliver:archive") == "done", "the archive to have it")
    first.lose_power("api", "processor")
    site.world.weather.clear()
    second.start("processor")
    second.wait(lambda: not leases(site), "the leases of the lost machine to run out")

    assert states(site, envelope_id)["deliver:smartshare"] == "due"
    second.run("deliveries", "refetch", "--spool", first.spool.id(), check=True)
    second.wait(lambda: set(states(site, envelope_id).values()) == {"done"}, "the other to deliver it")
    assert first.count(Folder.DEFERRED) == 1

    # Its disk is read after all, and its entry laid before the machine that is left.
    [entry] = first.spool.entries(Folder.DEFERRED)
    source = first.spool.path(Folder.DEFERRED, entry)
    source.rename(second.spool.path(Folder.SPOOL, entry))
    site.settle([envelope_id])
    assert [site.places(receipt) for receipt in receipts] == [[(second, Folder.DONE)]]
    first.return_to_life("processor")
    first.wait(lambda: first.log("processor").count("processor.started") == 2, "it to be back")
    site.settle([envelope_id])
    site.assert_nothing_lost_or_doubled(envelope_id, receipts)


def leases(site: Site) -> int:
    """How much somebody works on."""
    with site.any.database.reading() as connection:
        found = select(func.count()).where(OutboxRow.lease_until > func.now())
        return connection.execute(found).scalar_one()


def states_if_known(site: Site, envelope_id: int) -> dict[str, str]:
    return states(site, envelope_id) if site.any.knows("ssign", str(envelope_id)) else {}
