"""What is owed, by command: listed, and started afresh."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, insert, select, update

from shared.clock import utc_now
from shared.db.models import EventRow, FileRow, OutboxRow, State, Task
from shared.db.session import Database
from shared.spool import Entry, Folder
from tests.signspool.conftest import Place


def change(place: Place, delivery: int, **values: Any) -> None:
    """Have a delivery stand as some earlier trouble would have left it."""
    database = Database(URL.create("sqlite", database=str(place.spool.root / "signspool.db")))
    with database.transaction() as connection:
        connection.execute(update(OutboxRow).where(OutboxRow.id == delivery).values(**values))
        if values.get("state") in (State.FAILED, State.HELD):
            connection.execute(update(EventRow).values(settled_at=utc_now()))
    database.close()


def states(place: Place) -> dict[int, str]:
    """The state of every delivery."""
    return {row["id"]: row["state"] for row in place.here("deliveries", "ls", "--json").json}


def quarantined(place: Place, state: State) -> Entry:
    """One entry in quarantine for a delivery in a state."""
    entry = place.callback("155")
    place.once()
    change(place, 1, state=state, attempts=30)
    place.spool.quarantine(entry, Folder.DEFERRED, {"reason": "given up"})
    return entry


def test_deliveries_are_listed_by_state_destination_and_document(place: Place) -> None:
    """Each option narrows; the reason stands in the table."""
    place.callback("1")
    place.callback("2", provider="certisign", action="FLOW")
    place.once()
    rows = place.here("deliveries", "ls", "--json").json
    assert {(row["document_id"], row["task"], row["state"]) for row in rows} == {
        ("1", "fetch", "waiting"),
        ("2", "fetch", "waiting"),
    }
    for options, found in (
        (["--document", "1"], ["1"]),
        (["--provider", "certisign"], ["2"]),
        (["--destination", "ssign"], ["1"]),
        (["--state", "waiting"], ["2", "1"]),
        (["--state", "held", "--state", "failed"], []),
        (["--limit", "1"], ["2"]),
    ):
        listed = place.here("deliveries", "ls", "--json", *options).json
        assert [row["document_id"] for row in listed] == found, options
    assert rows[0]["last_error"] in place.here("deliveries", "ls").out


def test_a_failed_delivery_is_started_afresh_and_its_file_comes_back(place: Place) -> None:
    """The file is in deferred/ again, and the real processor works on it and explains it anew."""
    entry = quarantined(place, State.FAILED)
    asked = place.here("deliveries", "retry", "--state", "failed")
    assert (asked.code, asked.out) == (2, "")
    assert "1 delivery afresh" in asked.err
    said = place.here("deliveries", "retry", "--state", "failed", "--yes")
    assert said.code == 0
    assert "1 delivery started afresh" in said.out
    assert place.names(Folder.DEFERRED) == [entry.name]
    assert place.names(Folder.QUARANTINE) == []
    assert states(place) == {1: "due"}
    place.once()
    assert states(place) == {1: "waiting"}
    assert place.names(Folder.DEFERRED) == [entry.name]


def test_what_is_held_takes_an_explicit_id_or_yes(place: Place) -> None:
    """It may happen twice, so that a sweep over all is not enough."""
    quarantined(place, State.HELD)
    said = place.here("deliveries", "retry", "--state", "held")
    assert said.code == 2
    assert "twice" in said.err
    assert states(place) == {1: "held"}
    assert place.here("deliveries", "retry", "1").code == 0
    assert states(place) == {1: "due"}
    change(place, 1, state=State.HELD)
    assert place.here("deliveries", "retry", "--state", "held", "--yes").code == 0
    assert states(place) == {1: "due"}


def test_a_dry_run_retries_nothing(place: Place) -> None:
    """It says what would be done."""
    entry = quarantined(place, State.FAILED)
    said = place.here("deliveries", "retry", "1", "--dry-run", "--json")
    assert said.json == {"retried": [1], "left_alone": [], "unknown": [], "dry_run": True}
    assert states(place) == {1: "failed"}
    assert place.names(Folder.QUARANTINE) == [entry.name]


def test_what_is_done_or_in_work_is_left_alone_and_unknown_ids_exit_1(place: Place) -> None:
    """A second worker never joins the first, and a done thing is not done again."""
    for document_id in ("1", "2"):
        place.callback(document_id)
    place.once()
    change(place, 1, state=State.DONE)
    change(place, 2, state=State.DUE, lease_until=utc_now() + timedelta(minutes=5), leased_by="x", attempts=3)
    said = place.here("deliveries", "retry", "1", "2", "9", "--json")
    assert said.code == 1
    assert said.json == {"retried": [], "left_alone": [1, 2], "unknown": [9], "dry_run": False}
    attempts = {row["id"]: row["attempts"] for row in place.here("deliveries", "ls", "--json").json}
    assert attempts[2] == 3


def test_a_retry_needs_ids_or_a_state(place: Place) -> None:
    """Neither, both, and a state that cannot be retried are wrong use."""
    assert place.here("deliveries", "retry").code == 2
    assert place.here("deliveries", "retry", "1", "--state", "failed").code == 2
    assert place.here("deliveries", "retry", "--state", "done").code == 2


@pytest.mark.parametrize("number", ["0", str(2**63), "9" * 20])
def test_an_id_that_no_delivery_can_have_is_wrong_use(place: Place, number: str) -> None:
    """The largest that a database can count to is only unknown."""
    said = place.here("deliveries", "retry", number)
    assert said.code == 2
    assert "Invalid value for '[ID]...': Input should be " in said.err
    assert place.here("deliveries", "retry", str(2**63 - 1)).code == 1


def owe_a_step(place: Place, **values: Any) -> None:
    """Make workflow step 11, of the document of the waiting fetch 1, and step 12 of one that is fetched."""
    place.callback("155")
    place.callback("156")
    place.once()
    database = Database(URL.create("sqlite", database=str(place.spool.root / "signspool.db")))
    with database.transaction() as connection:
        for row in connection.execute(select(OutboxRow.__table__).order_by(OutboxRow.id)).mappings().all():
            step = {**row, "id": row["id"] + 10, "key": f"step {row['id']}", "task": Task.ADVANCE}
            due = {"state": State.DUE, "destination": "dms", "last_error": "", **values}
            connection.execute(insert(OutboxRow).values({**step, **due}))
        connection.execute(update(OutboxRow).where(OutboxRow.id == 2).values(state=State.DONE))
    database.close()


def test_a_step_that_is_due_says_what_it_waits_for(place: Place) -> None:
    """In both views for people; a step with nothing before it says nothing; the JSON is as it is."""
    owe_a_step(place)
    for arguments in (("deliveries", "ls"), ("documents", "show", "ssign", "155")):
        lines = [line for line in place.here(*arguments).out.splitlines() if line.startswith("11 ")]
        assert [line.endswith("waits for delivery 1 (waiting)") for line in lines] == [True], arguments
    assert "waits for" not in place.here("documents", "show", "ssign", "156").out
    steps = {row["id"]: row["last_error"] for row in place.here("deliveries", "ls", "--json").json}
    assert steps[11] is steps[12] is None
    # What blocks it is not among the rows that are listed.
    listed = place.here("deliveries", "ls", "--state", "due").out
    assert listed.count("waits for delivery 1 (waiting)") == 1


@pytest.mark.parametrize(
    ("destination", "waits"), [("dms", True), ("archive", False)], ids=["the same", "another"]
)
def test_a_step_waits_for_deliveries_to_its_own_destination_alone(
    place: Place, destination: str, waits: bool
) -> None:
    """What went wrong before is still told."""
    owe_a_step(place, last_error="HTTP 500")
    change(place, 1, task=Task.DELIVER, destination=destination, state=State.FAILED)
    for arguments in (("deliveries", "ls"), ("documents", "show", "ssign", "155")):
        [line] = [line for line in place.here(*arguments).out.splitlines() if line.startswith("11 ")]
        assert ("waits for delivery 1 (failed); " in line) == waits
        assert line.endswith("HTTP 500")


def test_a_retry_of_very_many_is_whole(place: Place) -> None:
    """More rows than one statement names."""
    for number in range(510):
        place.callback(str(number))
    place.once()
    said = place.here("deliveries", "retry", "--state", "waiting", "--provider", "ssign", "--yes", "--json")
    assert len(said.json["retried"]) == 510
    assert set(states(place).values()) == {"due"}


LOST = "1f0e6a52-6c1f-4c55-9d0e-5a0f0f7f6f11"


def leave_a_file_elsewhere(place: Place) -> None:
    """Make delivery 11 of a document that was fetched, whose file lies in a spool that is not here."""
    place.callback("155")
    place.once()
    database = Database(URL.create("sqlite", database=str(place.spool.root / "signspool.db")))
    with database.transaction() as connection:
        [fetch] = connection.execute(select(OutboxRow.__table__)).mappings().all()
        connection.execute(
            insert(FileRow).values(
                id=5,
                document_fk=fetch["document_fk"],
                kind="signed",
                source="901",
                name="contrato.pdf",
                media_type="application/pdf",
                size_bytes=1,
                sha256="0" * 64,
                path="2026-11-21/contrato.pdf",
                spool_id=LOST,
                fetched_at=utc_now(),
            )
        )
        delivery = {"id": 11, "key": "delivery", "task": Task.DELIVER, "file_fk": 5, "destination": "dms"}
        due = {"state": State.DUE, "last_error": ""}
        connection.execute(insert(OutboxRow).values({**fetch, **delivery, **due}))
    database.close()
    change(place, 1, state=State.DONE)


def test_files_of_a_machine_that_is_gone_are_fetched_again(place: Place) -> None:
    """The fetch is due again, and the list says until then why nothing happens."""
    leave_a_file_elsewhere(place)
    [line] = [line for line in place.here("deliveries", "ls").out.splitlines() if line.startswith("11 ")]
    assert line.endswith(f"waits for the machine of spool {LOST}, where its file lies")
    tried = place.here("deliveries", "refetch", "--spool", LOST, "--dry-run", "--json")
    assert tried.json == {"refetched": [11], "left_alone": [], "dry_run": True}
    assert states(place) == {1: "done", 11: "due"}
    said = place.here("deliveries", "refetch", "11")
    assert said.code == 0
    assert "the files of 1 delivery are fetched again" in said.out
    assert states(place) == {1: "due", 11: "due"}


def test_a_refetch_says_which_spools_hold_files_and_leaves_alone_what_is_in_work(place: Place) -> None:
    """So that nobody has to know the id of a machine that is gone."""
    leave_a_file_elsewhere(place)
    said = place.here("deliveries", "refetch")
    assert said.code == 2
    assert f"files wait to be delivered in: {LOST} (1)" in said.err
    change(place, 11, lease_until=utc_now() + timedelta(minutes=5), leased_by=LOST)
    said = place.here("deliveries", "refetch", "--spool", LOST, "--json")
    assert said.json == {"refetched": [], "left_alone": [11], "dry_run": False}
    assert states(place)[1] == "done"
    assert place.here("deliveries", "refetch", "--spool", "unknown", "--json").json["refetched"] == []
