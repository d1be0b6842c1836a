"""The company's own table hears of every change of status, in order, through outages of its own."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from processor.mirror import Mirror
from processor.work import Worker
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard

TABLE = "CREATE TABLE release (envelope VARCHAR(80) PRIMARY KEY, state VARCHAR(20), word VARCHAR(80))"
STATEMENT = "UPDATE release SET state = :status, word = :action WHERE envelope = :document_id"


class MirrorYard(Yard):
    """Adds the mirror's lane; the company's table lies in the same database."""

    def __init__(self, workshop: Workshop, statement: str = STATEMENT) -> None:
        workshop.mirror = True
        super().__init__(workshop)
        self.mirror = Mirror(workshop.database.url.render_as_string(hide_password=False), statement)
        fields = {name: getattr(self.worker, name) for name in Worker.__slots__}
        self.worker = Worker(**{**fields, "mirror": self.mirror})
        self.lanes = [self.lane("mirror", concurrency=1)]

    def rows(self) -> dict[str, tuple[str, str]]:
        with self.workshop.database.transaction() as connection:
            found = connection.execute(text("SELECT envelope, state, word FROM release"))
            return {row.envelope: (row.state, row.word) for row in found}


@pytest.fixture
def table(workshop: Workshop) -> Workshop:
    with workshop.database.transaction() as connection:
        connection.execute(text(TABLE))
        connection.execute(text("INSERT INTO release VALUES ('155', 'sent', ''), ('156', 'sent', '')"))
    return workshop


def test_a_changed_status_reaches_the_table(table: Workshop) -> None:
    yard = MirrorYard(table)
    table.put({"envelopeId": 155, "action": "EXPIRED"})
    table.work()
    yard.work()
    assert yard.rows()["155"] == ("expired", "EXPIRED")
    assert yard.rows()["156"] == ("sent", "")
    yard.mirror.close()


def test_what_changes_nothing_is_not_told(table: Workshop) -> None:
    yard = MirrorYard(table)
    for action in ("PENDING", "SIGNED-BY-BIRD"):
        table.put({"envelopeId": 155, "action": action})
    table.work()
    yard.work()
    assert yard.rows()["155"] == ("sent", "")
    yard.mirror.close()


def test_changes_of_one_document_are_told_in_order_through_an_outage(table: Workshop) -> None:
    yard = MirrorYard(table)
    with table.database.transaction() as connection:
        connection.execute(text("ALTER TABLE release RENAME TO away"))
    for action in ("EXPIRED", "DELETED"):
        table.put({"envelopeId": 155, "action": action})
        table.work()
    yard.work()
    states = [item["state"] for item in table.show("155")["owed"]]
    assert states == ["due", "due"]
    with table.database.transaction() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO release"))
    table.time.pass_seconds(100)
    yard.work()
    assert yard.rows()["155"] == ("deleted", "DELETED")
    assert [item["state"] for item in table.show("155")["owed"]] == ["done", "done"]
    yard.mirror.close()


def test_an_old_change_that_a_person_retries_does_not_undo_a_newer_one(table: Workshop) -> None:
    yard = MirrorYard(table)
    table.put({"envelopeId": 155, "action": "EXPIRED"})
    table.work()
    with table.database.transaction() as connection:
        connection.execute(text("UPDATE outbox SET state = 'failed' WHERE task = 'mirror'"))
    table.put({"envelopeId": 155, "action": "DELETED"})
    table.work()
    yard.work()
    with table.database.transaction() as connection:
        connection.execute(text("UPDATE outbox SET state = 'due' WHERE state = 'failed'"))
    yard.work()
    assert yard.rows()["155"] == ("deleted", "DELETED")
    yard.mirror.close()


def test_a_database_of_theirs_that_is_away_is_tried_again_with_its_reason(workshop: Workshop) -> None:
    yard = MirrorYard(workshop)
    workshop.put({"envelopeId": 155, "action": "EXPIRED"})
    workshop.work()
    away = Mirror("postgresql+psycopg://nobody@127.0.0.1:1/none", STATEMENT)
    fields = {name: getattr(yard.worker, name) for name in Worker.__slots__}
    yard.lanes[0]._worker = Worker(**{**fields, "mirror": away})
    yard.work()
    [owed] = workshop.show("155")["owed"]
    assert (owed["state"], owed["attempts"]) == ("due", 1)
    assert "the company's database" in owed["last_error"]
    away.close()
    yard.mirror.close()


def test_a_statement_names_only_what_it_needs(workshop: Workshop) -> None:
    mirror = Mirror(workshop.database.url.render_as_string(hide_password=False), "SELECT :status")
    mirror.tell(provider="p", document_id="1", status="expired", action="A", occurred_at=workshop.clock.now())
    mirror.close()
