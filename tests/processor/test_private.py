"""The processor's health: the age of the oldest thing that it should have done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update

from processor import silence
from processor.breaker import Breaker
from processor.daemon import Daemon
from processor.private import DaemonCollector, Judge
from shared.db.models import OutboxRow
from shared.errors import DatabaseUnavailableError
from shared.spool import Entry, Folder
from tests.processor.conftest import Workshop
from tests.processor.test_daemon import make_daemon
from tests.processor.test_metrics import values
from tests.processor.test_outbox import Yard
from tests.waiting import wait_until

LATE_AFTER_SECONDS = 300.0
NAME = "155_11111111-2222-4333-8444-555555555555.json"


@contextmanager
def judging(daemon: Daemon) -> Iterator[Judge]:
    judge = Judge(daemon, late_after_seconds=LATE_AFTER_SECONDS)
    with judge.looking():
        wait(lambda: judge.spool.latest() is not None and judge.database.latest() is not None)
        yield judge


def wait(condition: Callable[[], bool]) -> None:
    wait_until(condition, "it")


def lay(workshop: Workshop, age_seconds: float) -> Path:
    """An entry in `spool/` that came so long ago."""
    path = workshop.spool.path(Folder.SPOOL, workshop.lay(Entry("2026-11-21", NAME), b"{}"))
    changed_at = workshop.clock.now().timestamp() - age_seconds
    os.utime(path, (changed_at, changed_at))
    return path


def test_with_nothing_to_do_all_is_well(workshop: Workshop) -> None:
    with judging(make_daemon(workshop)) as judge:
        assert judge.ready().reason is None
        assert judge.ready().details["oldest_seconds"] == 0
        assert judge.alive().reason is None


@pytest.mark.parametrize(("age_seconds", "is_well"), [(200, True), (400, False)])
def test_an_entry_that_nobody_records_makes_it_late(
    workshop: Workshop, age_seconds: float, is_well: bool
) -> None:
    lay(workshop, age_seconds)
    with judging(make_daemon(workshop)) as judge:
        health = judge.ready()
        assert (health.reason is None) == is_well
        assert health.details == {"oldest_seconds": age_seconds, "oldest": "spool"}


def test_what_is_due_makes_it_late_unless_its_peer_is_left_alone(workshop: Workshop) -> None:
    """A peer that fails has an alarm of its own, and is no reason to restart us."""
    yard = Yard(workshop)
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    workshop.time.pass_seconds(1000)
    with judging(make_daemon(workshop, lanes=yard.lanes)) as judge:
        assert judge.oldest().late_seconds == 1000
        assert "should have been done 1000 s ago" in (judge.ready().reason or "")
        for lane in yard.lanes:
            lane.breaker = Breaker(failures=1, pause_seconds=30, monotonic=time.monotonic)
            lane.breaker.failed()
        assert judge.ready().reason is None


def test_passes_and_sweeps_are_due_after_their_time(workshop: Workshop) -> None:
    """The daemon of the test sweeps every second."""
    daemon = make_daemon(workshop, sweep_seconds=1.0)
    with judging(daemon) as judge:
        daemon.metrics.passed()
        daemon.metrics.swept_at = time.monotonic() - 501
        assert judge.oldest().about == "sweep"
        assert judge.oldest().late_seconds == pytest.approx(500, abs=20)
        assert judge.ready().reason is not None
        daemon.metrics.swept()
        daemon.metrics.passed_at = time.monotonic() - 601
        assert judge.oldest().about == "pass"
        daemon.metrics.passed()
        assert judge.ready().reason is None


def test_one_that_stands_by_is_well_whatever_lies_there(workshop: Workshop) -> None:
    """The work is another's."""
    lay(workshop, 1000)
    daemon = make_daemon(workshop)
    daemon.metrics.stands_by(True)
    with judging(daemon) as judge:
        assert judge.ready().reason is None
        assert judge.ready().details["oldest"] == "standby"
        daemon.metrics.stands_by(False)
        assert judge.ready().reason is not None


def test_without_its_means_it_is_not_ready_and_alive(workshop: Workshop) -> None:
    daemon = make_daemon(workshop)
    with judging(daemon) as judge:
        daemon.means.missed("recording", DatabaseUnavailableError("away"))
        assert "processor.unavailable" in (judge.ready().reason or "")
        assert judge.alive().reason is None
        daemon.means.found("recording")
        assert judge.ready().reason is None


def test_a_loop_that_does_not_turn_is_not_alive(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    with judging(make_daemon(workshop)) as judge:
        monkeypatch.setattr(judge, "_beat_at", time.monotonic() - 60)
        assert "restart the service" in (judge.alive().reason or "")
        assert judge.ready().reason is not None


def test_the_gauges_say_what_the_looks_found(workshop: Workshop) -> None:
    """And that the database is away, as soon as a look failed; what it found before stays."""
    yard = Yard(workshop)
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    with workshop.database.transaction() as connection:
        connection.execute(update(OutboxRow).values(state="held"))
    lay(workshop, 60)
    daemon = make_daemon(workshop, lanes=yard.lanes)
    with judging(daemon) as judge:
        daemon.metrics.add(DaemonCollector(daemon, judge))
        registry = daemon.metrics.registry
        assert values(registry, "signspool_spool_entries") == {("spool",): 1, ("deferred",): 1}
        assert values(registry, "signspool_spool_oldest_age_seconds")["spool",] == 60
        assert values(registry, "signspool_database_up") == {(): 1}
        held = {("provider:ssign", "held"): 1, ("destination:memory", "held"): 1}
        assert values(registry, "signspool_deliveries") == held
        assert values(registry, "signspool_breaker_open") == {}
        assert values(registry, "signspool_processor_available") == {(): 1}
        workshop.database.give_up()
        wait(lambda: values(registry, "signspool_database_up") == {})
        assert values(registry, "signspool_deliveries") == held
        assert judge.ready().reason is not None


def others_call(workshop: Workshop) -> None:
    for number in range(4):
        workshop.put({"documentId": number, "action": "PENDING"}, provider="certisign")
        workshop.work()
    workshop.time.pass_seconds(60)


def test_a_callback_of_long_ago_is_found_and_stays_known(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the alarm about a provider's silence would end because it is silent for long."""
    monkeypatch.setattr(silence, "EVENTS_AT_ONCE", 2)
    yard = Yard(workshop)
    workshop.put({"envelopeId": 1, "action": "PENDING"})
    workshop.work()
    at = workshop.clock.now()
    workshop.time.pass_seconds(60)
    others_call(workshop)
    with judging(make_daemon(workshop, lanes=yard.lanes)) as judge:
        before = judge.database.latest()
        assert before is not None
        assert before.value.last_callbacks == {"ssign": at}
        others_call(workshop)

        def is_looked_at_anew() -> bool:
            found = judge.database.latest()
            return found is not None and found.at > before.at

        wait(is_looked_at_anew)
        after = judge.database.latest()
        assert after is not None
        assert after.value.last_callbacks == {"ssign": at}


def test_what_nobody_has_looked_at_is_counted(workshop: Workshop) -> None:
    path = workshop.spool.path(Folder.QUARANTINE, Entry("2026-11-21", NAME))
    path.parent.mkdir()
    path.write_bytes(b"{}")
    daemon = make_daemon(workshop)
    with judging(daemon) as judge:
        daemon.metrics.add(DaemonCollector(daemon, judge))
        registry = daemon.metrics.registry
        assert values(registry, "signspool_spool_unseen_entries") == {("quarantine",): 1}
