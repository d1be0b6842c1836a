"""PostgreSQL falls ill while callbacks come in: the door notices nothing, the daemon waits and goes on.

Each test makes one outage and is followed by the next on the same processes. In each the door answers 200 to
everybody, the daemon says once that the database is away and once that it is back, and goes on by itself. The
last test finds nothing lost, nothing doubled, nobody charged. `SIGNSPOOL_TEST_OUTAGE_SECONDS` sets how long
the longer outages last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from simulator.server import SimulatorServer
from tests.outages import AWAY, BACK, OUTAGE_SECONDS, Scene
from tests.sickness import PASSWORD, ROLE, OwnPostgres, SmallDisk


@pytest.fixture(scope="module")
def server(postgres_home: Path) -> Iterator[OwnPostgres]:
    folder = postgres_home / "sick"
    folder.mkdir()
    with closing(OwnPostgres(folder)) as made:
        yield made


@pytest.fixture(scope="module")
def postgres(server: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The processor is started while its password is wrong, and so begins with its first outage."""
    with SimulatorServer() as peers:
        scene = Scene(tmp_path_factory.mktemp("sick-postgresql"), peers, server.url())
        server.execute(f"ALTER ROLE {ROLE} PASSWORD 'another'")
        scene.installation.start("api", "processor")
        scene.caller.start()
        yield scene
        scene.close()


def test_a_wrong_password_at_the_start_is_said_once_and_waited_for(
    postgres: Scene, server: OwnPostgres
) -> None:
    postgres.wait_until_away()
    assert "password authentication failed" in postgres.log()
    assert PASSWORD not in postgres.log()
    assert "processor.started" not in postgres.log()
    time.sleep(1)
    server.execute(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    postgres.wait(lambda: BACK in postgres.log(), "the daemon to start")
    postgres.wait_until_recorded(set(postgres.caller.receipts))
    assert postgres.log().count(AWAY) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_stopped_and_started_again(postgres: Scene, server: OwnPostgres, mode: str) -> None:
    with postgres.outage():
        server.stop(mode)
        postgres.wait_until_away()
        time.sleep(1)
        server.start()


def test_connections_that_are_killed_again_and_again(postgres: Scene, server: OwnPostgres) -> None:
    """Each loss may be said and be over again at once, but no loss twice."""
    since = len(postgres.log())
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    for _ in range(12):
        server.execute(kill)
        time.sleep(0.1)
    waiting = set(postgres.caller.receipts)
    postgres.wait_until_recorded(waiting)
    postgres.wait(
        lambda: postgres.log(since).count(AWAY) == postgres.log(since).count(BACK) > 0,
        "the daemon to be back",
    )
    assert "entry.quarantined" not in postgres.log(since)
    assert postgres.caller.refusals == []


def test_a_commit_whose_answer_is_lost(postgres: Scene, server: OwnPostgres) -> None:
    since = len(postgres.log())
    server.proxy.lose_answers(10)
    postgres.wait(lambda: server.proxy.answers_lost == 10, "answers to be lost")
    postgres.wait_until_recorded(set(postgres.caller.receipts))
    postgres.wait(lambda: postgres.log(since).count(AWAY) == postgres.log(since).count(BACK), "being back")
    assert AWAY in postgres.log(since)


def test_deadlocks_and_serialisation_failures_are_tried_again(postgres: Scene, server: OwnPostgres) -> None:
    since = len(postgres.log())
    server.execute_in_work(
        f"CREATE SEQUENCE sick; GRANT USAGE ON SEQUENCE sick TO {ROLE}",
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE turn bigint := nextval('sick');
        BEGIN
            IF turn <= 4 THEN
                RAISE EXCEPTION 'turn %', turn
                    USING ERRCODE = CASE turn % 2 WHEN 0 THEN '40001' ELSE '40P01' END;
            END IF;
            RETURN NULL;
        END $$""",
        "CREATE TRIGGER fail AFTER INSERT ON events EXECUTE FUNCTION fail()",
        "CREATE TRIGGER fail AFTER UPDATE ON outbox EXECUTE FUNCTION fail()",
    )
    try:
        postgres.wait(lambda: AWAY in postgres.log(since), "a failure")
        postgres.wait_until_recorded(set(postgres.caller.receipts))
    finally:
        # One table at a time, or this would be one more party to a deadlock.
        server.execute_in_work("DROP TRIGGER fail ON events", "DROP TRIGGER fail ON outbox")
        server.execute_in_work("DROP FUNCTION fail", "DROP SEQUENCE sick")
    postgres.wait(lambda: postgres.log(since).count(AWAY) == postgres.log(since).count(BACK), "being back")
    assert "the database asks to try again" in postgres.log(since)
    assert "entry.quarantined" not in postgres.log(since)


def test_a_database_that_only_reads(postgres: Scene, server: OwnPostgres) -> None:
    with postgres.outage():
        server.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        postgres.wait_until_away()
        server.execute("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


def test_a_schema_that_is_dropped_harms_no_entry(postgres: Scene, server: OwnPostgres) -> None:
    with postgres.outage():
        server.execute_in_work("ALTER SCHEMA public RENAME TO away")
        postgres.wait_until_away()
        assert "signspool db upgrade" in postgres.log()
        server.execute_in_work("ALTER SCHEMA away RENAME TO public")


def test_a_full_disk_of_the_server(postgres: Scene, server: OwnPostgres) -> None:
    try:
        disk = SmallDisk(server.folder / "small", 4 << 20)
    except PermissionError as error:
        pytest.skip(str(error))
    with closing(disk):
        place = disk.path / "space"
        place.mkdir(0o700)
        if server.user is not None:
            shutil.chown(place, server.user)
        server.execute_in_work(
            f"CREATE TABLESPACE small LOCATION '{place}'", "ALTER TABLE events SET TABLESPACE small"
        )
        with postgres.outage():
            disk.fill()
            postgres.wait_until_away()
            assert "No space left" in postgres.log()
            time.sleep(1)
            disk.free()
        server.execute_in_work("ALTER TABLE events SET TABLESPACE pg_default", "DROP TABLESPACE small")


def test_a_server_that_hangs_is_waited_for_and_keeps_nobody_from_ending(
    postgres: Scene, server: OwnPostgres
) -> None:
    with server.hanging():
        time.sleep(OUTAGE_SECONDS - 5)
    postgres.wait_until_recorded(set(postgres.caller.receipts))
    postgres.caller.end()
    postgres.installation.wait_until_settled()
    receipt = postgres.installation.post("ssign", {"envelopeId": 7, "action": "PENDING"}).json()["id"]
    with server.hanging():
        time.sleep(0.5)
        postgres.stop_processor()
    postgres.caller.receipts[receipt] = "7"


def test_a_server_that_is_away_keeps_nobody_from_ending(postgres: Scene, server: OwnPostgres) -> None:
    server.stop("fast")
    since = len(postgres.log())
    postgres.installation.start("processor")
    postgres.wait(lambda: AWAY in postgres.log(since), "the daemon to say that the database is away")
    postgres.stop_processor()
    server.start()


def test_after_all_that_nothing_is_lost_doubled_or_charged_on_postgresql(postgres: Scene) -> None:
    postgres.installation.start("processor")
    postgres.assert_all_is_well()
