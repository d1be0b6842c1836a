"""What is deferred moves on when nothing is owed; to find that out holds up nobody."""

from __future__ import annotations

from processor.settle import Settler
from shared.db.session import Database
from shared.spool import Folder
from tests.processor.conftest import Workshop


def test_a_look_that_finds_nothing_to_settle_waits_for_nobody_who_writes(workshop: Workshop) -> None:
    """On SQLite one at a time may write: a look at thousands of deferred entries must not stop that one."""
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    impatient = Database(workshop.database.url, busy_timeout_seconds=0.05)
    settler = Settler(workshop.spool, workshop.spool_id, impatient, keep_done=True)
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE documents SET status = status")
        assert settler.scan() == 0
        settler.settle_event(1)
    impatient.close()
    assert workshop.folder_of(entry) is Folder.DEFERRED
