"""ArqSign without webhooks, end to end: real processes that ask, within a budget, and never twice."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from processor import documents, polls
from shared.clock import utc_now
from shared.db.models import CallRow, PollRow
from shared.providers._asking import WISH
from shared.providers._base import Ask
from shared.settings import build_providers, load_settings
from shared.spool import Folder
from signspool.finding import Finding, Level
from signspool.findings import findings
from simulator.arqsign import LetterCase, Process, Trigger, WordAs
from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.mortal import Mortal
from tests.nursery import Nursery
from tests.nursery import Process as Forked
from tests.steps import Point

SETTINGS = """
[providers.arqsign]
webhooks = false
poll = true
plan = "custom"
calls_per_second = 1000
calls_per_minute = 10000
base_url = "{peers}/arqsign"
app_key = "{app_key}"
subscription_key = "{subscription_key}"
not_ready_wait_seconds = 0
"""
MANY = """
calls_per_hour = 10000000
calls_per_month = 1000000000
"""
OFTEN = f"""{MANY}
poll_interval_seconds = 0.4
poll_more_often = true
"""


class Asking:
    """An installation that only asks, and the simulated ArqSign that it asks."""

    def __init__(self, installation: Mortal, world: World) -> None:
        self.installation = installation
        self.settings = load_settings(installation.config)
        self.providers = build_providers(self.settings)
        self.world = world
        self.arqsign = world.arqsign

    def send(self, files: int = 1) -> Process:
        """A process that was sent out, and registered."""
        process = self.arqsign.send(files=files)
        self.register(process)
        return process

    def register(self, process: Process) -> None:
        """Tell of a process, as `signspool documents register` does."""
        registration = documents.Registration("arqsign", process.id, {}, {})
        with self.installation.database.transaction() as connection:
            documents.register(connection, registration, utc_now(), self.providers)

    def shown(self, process: Process) -> dict[str, Any]:
        return self.installation.show("arqsign", process.id)

    def until(self, process: Process, status: str) -> dict[str, Any]:
        """Wait for a status, and for everything to be settled."""
        installation = self.installation
        installation.wait(lambda: self.shown(process)["status"] == status, f"{status}: {self.row(process)}")
        installation.wait(installation.is_at_rest, "every entry to be settled")
        return self.shown(process)

    def row(self, process: Process) -> dict[str, Any]:
        with self.installation.database.reading() as connection:
            rows = polls.listing(connection, "arqsign", 1000)
        return next(row for row in rows if row["subject"] == process.id)

    def is_being_asked(self, process: Process) -> bool:
        with self.installation.database.reading() as connection:
            leased = select(PollRow.lease_until).where(PollRow.subject == process.id)
            return connection.scalar(leased) is not None

    def due_now(self, *processes: Process) -> None:
        """As if the time of the day of these had come."""
        with self.installation.database.transaction() as connection:
            subjects = [process.id for process in processes]
            connection.execute(update(PollRow).where(PollRow.key.in_(subjects)).values(next_at=utc_now()))

    def booked(self) -> int:
        """Calls that were booked in this month."""
        with self.installation.database.reading() as connection:
            found = connection.scalar(select(func.sum(CallRow.calls)).where(CallRow.span == "month"))
            return int(found or 0)

    def calls(self, process: Process | None = None) -> list[str]:
        """The last word of each address that was called, of one process or of all."""
        path = process.id if process else "/api/"
        return [request.path.rpartition("/")[2] for request in self.world.requests_to("arqsign", path)]

    def findings(self, about: str) -> list[Finding]:
        """What `signspool check` finds about something."""
        return [
            found for found in findings(self.settings, init_spool=False, offline=True) if found.about == about
        ]

    def archived(self, process: Process) -> list[str]:
        files = (self.installation.home / "archive" / "arqsign" / process.id).rglob("*.pdf")
        return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def digests(process: Process) -> list[str]:
    return sorted(file.sha256 for file in (*process.signed, *process.records))


Build = Callable[..., Asking]


@pytest.fixture
def build(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[Build]:
    """Makes installations on one database and one simulator."""
    with ExitStack() as stack:
        server = stack.enter_context(SimulatorServer())
        urls: dict[str, Any] = {}

        def make(kind: str, name: str = "one", settings: str = MANY) -> Asking:
            home = tmp_path / name
            home.mkdir()
            url = urls.get(kind) or stack.enter_context(make_database(kind, home, request))
            urls[kind] = url
            installation = Mortal(home, server.url, url, nursery)
            arqsign = server.world.arqsign
            text = SETTINGS.format(
                peers=server.url, app_key=arqsign.app_key, subscription_key=arqsign.subscription_key
            )
            # Nothing but the archive is delivered to.
            before, _, rest = installation.config.read_text().partition("[destinations.smartshare]")
            archive = rest[rest.index("[destinations.archive]") :]
            installation.config.write_text(before + archive + text + settings)
            stack.callback(installation.close)
            return Asking(installation, server.world)

        yield make


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_becomes_of_processes_is_learned_by_asking_alone(build: Build, kind: str) -> None:
    asking = build(kind, settings=OFTEN)
    arqsign = asking.arqsign
    arqsign.letter_case, arqsign.word_as = LetterCase.PASCAL, WordAs.UPPER
    asking.installation.start("processor")
    concluded, refused, cancelled, expired, deleted = (asking.send(files=2) for _ in range(5))

    asking.installation.wait(lambda: asking.row(concluded)["note"] != "", "the first question")
    arqsign.happen(concluded.id, Trigger.ONE_SIGNED)
    asking.installation.wait(lambda: asking.row(concluded)["note"] == "EM PROCESSO", "the next one")
    arqsign.conclude(concluded.id)
    found = asking.until(concluded, "completed")
    assert asking.archived(concluded) == digests(concluded)
    assert {event["origin"] for event in found["events"]} == {"poll"}
    assert {event["trust"] for event in found["events"]} == {"proven"}
    assert [event["outcome"] for event in found["events"]] == ["unchanged", "applied"]
    [first, *between, fetch] = asking.calls(concluded)
    assert (first, set(between), fetch) == ("dados-signatarios", {"status-do-processo"}, concluded.id)

    arqsign.happen(refused.id, Trigger.REFUSED)
    arqsign.happen(cancelled.id, Trigger.CANCELLED)
    deleted.deleted = True
    found = asking.until(refused, "declined")
    assert found["events"][-1]["message"] == "Cláusula 3."
    asking.until(cancelled, "cancelled")
    asking.until(deleted, "deleted")
    for process in (concluded, refused, cancelled, deleted):
        asking.installation.wait(lambda one=process: asking.row(one)["next_at"] is None, "the asking to end")  # type: ignore[misc]

    # An expiry is no word but a date, and not the end.
    expired.expires_at = arqsign.now.replace(year=2020)
    with asking.installation.database.transaction() as connection:
        memory = {"expires": expired.expires_at.isoformat()}
        polls.begin(connection, "arqsign", [Ask(expired.id, memory)], utc_now())
    asking.until(expired, "expired")
    arqsign.happen(expired.id, Trigger.RESENT)
    asking.until(expired, "pending")
    arqsign.conclude(expired.id)
    asking.until(expired, "completed")
    assert asking.archived(expired) == digests(expired)
    assert asking.booked() == len(asking.calls())
    assert asking.installation.count(Folder.QUARANTINE) == 0


def test_a_revoked_key_is_one_alarm_and_all_goes_on_when_it_is_right_again(build: Build) -> None:
    """Both what is asked and what is fetched stop; nothing is charged, nothing fails."""
    asking = build("sqlite", settings=OFTEN)
    arqsign, installation = asking.arqsign, asking.installation
    one, other = asking.send(), asking.send()
    arqsign.conclude(one.id)
    old = arqsign.app_key
    # Between the word and the files of the first one.
    installation.die_at("processor", Point("processor.work", "Worker._fetch", "enter", 1))
    arqsign.revoke()
    installation.start("processor")
    installation.wait(lambda: "provider.refuses_us" in installation.log("processor"), "the alarm")
    before = len(asking.calls())
    installation.wait(lambda: len(asking.calls()) > before + 1, "two trials")
    assert installation.log("processor").count("provider.refuses_us") == 1
    [fetch] = asking.shown(one)["owed"]
    assert (fetch["state"], fetch["task"]) == ("due", "fetch")
    assert installation.count(Folder.QUARANTINE) == 0
    assert installation.count(Folder.DEFERRED) == 1
    [refused] = [found for found in asking.findings("provider arqsign") if "our key" in found.text]
    assert refused.level is Level.FAIL
    arqsign.conclude(other.id)
    arqsign.app_key = old
    for process in (one, other):
        asking.until(process, "completed")
        assert asking.archived(process) == digests(process)
    log = installation.log("processor")
    assert (log.count("provider.refuses_us"), log.count("provider.accepts_us")) == (1, 1)


def test_other_settings_begin_mend_and_end_the_asking_while_the_processor_runs(build: Build) -> None:
    """A corrected key counts at once, however long its refusal would have kept everything waiting."""
    asking = build("sqlite", settings=OFTEN)
    arqsign, installation = asking.arqsign, asking.installation
    right = installation.config.read_text().replace('breaker_pause = "200ms"', 'breaker_pause = "1h"')
    wrong = right.replace(arqsign.app_key, "99999999-2222-4333-8444-555555555555")
    without = right[: right.index("[providers.arqsign]")]
    one, other = asking.send(), asking.send()
    arqsign.conclude(one.id)
    # Between the word and the files of the first one, so that a fetch is refused as well.
    installation.config.write_text(right)
    installation.die_at("processor", Point("processor.work", "Worker._fetch", "enter", 1))
    installation.config.write_text(without)
    process = installation.bear("processor")
    try:
        installation.wait(lambda: installation.log("processor").count("processor.started") == 2, "the start")
        _reload(installation, process, wrong)
        installation.wait(
            lambda: installation.log("processor").count("provider.refuses_us") == 1, "the alarm"
        )
        asked = len(asking.calls(other))
        _reload(installation, process, right)
        asking.until(one, "completed")
        assert asking.archived(one) == digests(one)
        installation.wait(lambda: len(asking.calls(other)) > asked, "the other to be asked about")

        _reload(installation, process, without)
        installation.start("api")
        # What was in hand at the reload goes on to its end.
        _go_round(installation, "7")
        installation.wait(lambda: not asking.is_being_asked(other), "the last question to end")
        asked = len(asking.calls(other))
        arqsign.conclude(other.id)
        asking.due_now(other)
        _go_round(installation, "8")
        assert len(asking.calls(other)) == asked
        _reload(installation, process, right)
        asking.until(other, "completed")
        assert asking.archived(other) == digests(other)
        assert process.is_running()
    finally:
        process.kill()


def _go_round(installation: Mortal, envelope_id: str) -> None:
    """Wait until all that is due was looked for, which happens more often than anything is recorded."""
    body = {"envelopeId": int(envelope_id), "action": "EXPIRED"}
    assert installation.post("ssign", body).status_code == 200
    installation.wait(lambda: installation.knows("ssign", envelope_id), "a callback to be recorded")


def _reload(installation: Mortal, process: Forked, settings: str) -> None:
    word = '"settings.reloaded"'
    count = installation.log("processor").count(word)
    installation.config.write_text(settings)
    process.send_signal(signal.SIGHUP)
    installation.wait(lambda: installation.log("processor").count(word) > count, "the other settings")


def test_calls_that_are_used_up_are_waited_for(build: Build) -> None:
    asking = build("sqlite", settings=OFTEN)
    arqsign, installation = asking.arqsign, asking.installation
    arqsign.over_quota_status, arqsign.retry_after_seconds, arqsign.calls_left = 403, 1, 0
    process = asking.send()
    arqsign.conclude(process.id)
    installation.start("processor")
    installation.wait(lambda: len(asking.calls()) == 1, "a call that is refused")
    installation.wait(lambda: "used up" in asking.row(process)["note"], "the note")
    arqsign.calls_left = None
    asking.until(process, "completed")
    assert asking.archived(process) == digests(process)
    assert '"in_seconds":1.0' in installation.log("processor")


DEATHS = [
    (Point("processor.booked", "BookedSender._book", "leave", 1), 0),
    (Point("processor.poll", "Poller._spool", "leave", 1), 1),
    (Point("processor.polls", "finish", "enter", 1), 1),
    (Point("processor.polls", "finish", "leave", 1), 1),
]
"""Where a process dies, and how many calls had left by then. The first two by default; all of them with
`SIGNSPOOL_TEST_KILL_STEPS=all`."""


@pytest.mark.parametrize(
    ("point", "calls"),
    DEATHS if os.environ.get("SIGNSPOOL_TEST_KILL_STEPS") == "all" else DEATHS[:2],
    ids=str,
)
def test_a_death_around_a_question_repeats_none_that_day_and_loses_nothing(
    build: Build, point: Point, calls: int
) -> None:
    """Whoever dies between booking and noting has used the place of the day; what was spooled counts."""
    asking = build("sqlite")
    installation = asking.installation
    process = asking.send()
    asking.arqsign.conclude(process.id)
    asking.due_now(process)
    installation.die_at("processor", point)
    assert (asking.calls(process), asking.booked()) == (["dados-signatarios"] * calls, 1)
    installation.start("processor")
    if calls:
        found = asking.until(process, "completed")
        assert [event["outcome"] for event in found["events"]] == ["applied"]
        assert asking.archived(process) == digests(process)
        assert asking.calls(process) == ["dados-signatarios", process.id]
        return
    other = asking.send()
    asking.arqsign.conclude(other.id)
    asking.due_now(other)
    asking.until(other, "completed")
    assert asking.calls(process) == [], "its place of the day is used"
    assert asking.row(process)["next_at"] > utc_now()
    # A person may have it asked all the same.
    with installation.database.transaction() as connection:
        polls.begin(connection, "arqsign", [Ask(process.id, {WISH: "hand"})], utc_now())
    asking.until(process, "completed")


def test_two_processors_on_one_database_ask_nothing_twice_and_share_the_budget(build: Build) -> None:
    """Each with a spool of its own; the calls of the account are fewer than what is to be asked."""
    few = "calls_per_hour = 8\ncalls_per_month = 600\ncall_reserve = 0.0\n"
    first, second = (build("postgresql", name, few) for name in ("one", "two"))
    processes = [first.send() for _ in range(24)]
    first.due_now(*processes)
    for each in (first, second):
        each.installation.start("processor")
    logs = (first.installation, second.installation)
    first.installation.wait(
        lambda: all("provider.calls_used_up" in one.log("processor") for one in logs), "both to run dry"
    )
    first.installation.wait(lambda: len(first.calls()) == first.booked(), "every booked call to be made")
    called = first.calls()
    # Twice the calls of an hour, should a new one have begun meanwhile.
    assert 8 <= len(called) <= 16
    assert len(called) == first.booked()
    by_process = [len(first.calls(process)) for process in processes]
    assert max(by_process) == 1
    left = [process for process, count in zip(processes, by_process, strict=True) if not count]
    assert left
    first.installation.wait(
        lambda: all(first.row(process)["next_at"] <= utc_now() for process in left), "the rest to stay due"
    )
    [short] = first.findings("calls of arqsign")
    assert short.level is Level.WARN
    assert "24 asked about" in short.text
