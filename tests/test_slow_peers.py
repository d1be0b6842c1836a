"""Real processes, and hundreds of things due to slow peers: others are served as if they were not there.

`SIGNSPOOL_TEST_DUE` sets how many deliveries are due to the slow destination.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from processor.owed import destination_lane, provider_lane
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task
from shared.spool import Folder
from simulator.files import make_pdf
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.conftest import make_database
from tests.installation import Installation
from tests.test_walk import dms_of

DUE = int(os.environ.get("SIGNSPOOL_TEST_DUE", "300"))
FETCHES = 100
FIRST = 1_000_000_000
"""The number of the first row, far from those that the database gives."""
FILES = 300
"""How many of the deliveries have a file on disk; in the order of the queue no test comes to the others."""


@pytest.fixture(params=["sqlite", "postgresql"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Installation, World]]:
    (tmp_path / "archive").mkdir()
    with SimulatorServer() as server, make_database(request.param, tmp_path, request) as url:
        made = Installation(tmp_path, server.url, url)
        text = made.config.read_text()
        patient = text.replace('read_timeout = "30s"', 'read_timeout = "5m"')
        made.config.write_text(patient.replace("[processor]", '[processor]\ngrace = "1s"'))
        yield made, server.world
        made.close()


def test_peers_that_do_not_answer_hold_up_nobody_else_and_not_the_end(
    scene: tuple[Installation, World],
) -> None:
    """A program with one lane would come to the new document after all the others, which is never."""
    installation, world = scene
    world.weather.add(
        Storm("smartshare", StormKind.SILENCE, path="InserirAnexo", times=None, seconds=600),
        Storm("ssign", StormKind.SILENCE, times=None, seconds=600),
    )
    owe(installation)
    installation.start("processor")
    installation.wait(lambda: hanging(world) == AT_ONCE, "as many requests without an answer as may be")

    document = world.certisign.send(steps=1, signers=1)
    installation.register("certisign", document.id, dms_of(document.id), chave=document.chave)
    *_, completed = world.certisign.play(document.id, "ACTION")
    lay(installation, str(document.id), dict(completed))
    archived = installation.home / "archive" / "certisign" / str(document.id)
    installation.wait(lambda: any(archived.rglob("*.pdf")), "the file in the archive")
    assert hanging(world) == AT_ONCE, "no more at once than a lane may do, however many are due"
    peak_kib = int(next(line for line in status(installation) if line.startswith("VmHWM:")).split()[1])
    assert peak_kib < 150 * 1024, "the queue is in memory"

    # The grace time is over long before any of them answers.
    assert installation.stop("processor") == 0
    assert installation.log("processor").count('"delivery.cut_off"') == sum(AT_ONCE.values())
    with installation.database.reading() as connection:
        unknown = connection.scalars(
            select(OutboxRow.task).where(OutboxRow.sent_at.is_not(None), OutboxRow.state == State.DUE)
        ).all()
    assert unknown == [Task.DELIVER] * 4, "what was on its way is marked for whoever takes it next"


AT_ONCE = {"smartshare": 4, "ssign": 4}


def hanging(world: World) -> dict[str, int]:
    """Requests that were sent and not answered, by peer."""
    return {
        "smartshare": sum(r.storm is StormKind.SILENCE for r in world.requests_to("smartshare")),
        "ssign": len(world.requests_to("ssign")),
    }


def status(installation: Installation) -> list[str]:
    """What the system says of the processor."""
    return Path(f"/proc/{installation.pid('processor')}/status").read_text().splitlines()


def lay(installation: Installation, document_id: str, body: dict[str, Any]) -> None:
    """Lay an entry into the spool as the vendor's own product does."""
    now = installation.spool.clock.local()
    content = {
        "timestamp": now.isoformat(),
        "originalPayload": body,
        "documentId": document_id,
        "action": body.get("action") or body["Action"],
        "provider": 0,
    }
    day = installation.spool.folder(Folder.SPOOL) / now.date().isoformat()
    day.mkdir(exist_ok=True)
    made = installation.spool.temporary / "entry"
    made.write_text(json.dumps(content))
    made.rename(day / f"{document_id}_{uuid.uuid4()}.json")


def owe(installation: Installation) -> None:
    """Have uploads due to SmartShare, a workflow step behind each, and fetches due from S-SIGN."""
    rows = Rows(installation)
    for number in range(FIRST, FIRST + DUE):
        rows.add_delivery(number)
    for number in range(FIRST + DUE, FIRST + DUE + FETCHES):
        rows.add(number, Task.FETCH, provider_lane("ssign"))
    rows.insert()


class Rows:
    """Rows of documents that were completed, as the processor writes them."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._now = installation.spool.clock.now() - timedelta(hours=1)
        self._spool_id = installation.spool.id()
        self._rows: dict[Any, list[dict[str, Any]]] = {Document: [], EventRow: [], FileRow: [], OutboxRow: []}
        self._folder = installation.spool.files / "2026-01-01"
        self._folder.mkdir()

    def add_delivery(self, number: int) -> None:
        """A file that was fetched and is owed to SmartShare, and the step that follows."""
        content = make_pdf(f"document {number}")
        if number < FIRST + FILES:
            (self._folder / str(number)).write_bytes(content)
        self._rows[FileRow].append(
            {
                "id": number,
                "document_fk": number,
                "kind": "signed",
                "source": "signed:1",
                "name": f"{number}.pdf",
                "media_type": "application/pdf",
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "path": f"2026-01-01/{number}",
                "spool_id": self._spool_id,
                "fetched_at": self._now,
            }
        )
        lane = destination_lane("smartshare")
        self.add(number, Task.DELIVER, lane, number)
        self._rows[OutboxRow].append(self._owed(number, Task.ADVANCE, lane, None))

    def add(self, number: int, task: Task, lane: str, file_fk: int | None = None) -> None:
        """A document, its event, and what is owed for it."""
        document_id = str(number)
        self._rows[Document].append(
            {
                "id": number,
                "provider": "ssign",
                "key": document_id,
                "document_id": document_id,
                "status": "completed",
                "created_at": self._now,
                "refs": {"file_ids": "1"},
                "dms": dms_of(document_id),
                "refs_version": 1,
                "learned": {},
            }
        )
        self._rows[EventRow].append(
            {
                "id": number,
                "document_fk": number,
                "receipt_id": f"receipt-{number}",
                "ordinal": 0,
                "action": "COMPLETED",
                "event_type": "completed",
                "outcome": "applied",
                "status_before": "pending",
                "status_after": "completed",
                "message": "",
                "received_at": self._now,
                "recorded_at": self._now,
                "origin": "callback",
                "trust": "proven",
                "payload_sha256": "",
                "spool_id": self._spool_id,
                "day": "2026-01-01",
                "name": f"{document_id}_{number}.json",
            }
        )
        self._rows[OutboxRow].append(self._owed(number, task, lane, file_fk))

    def _owed(self, number: int, task: Task, lane: str, file_fk: int | None) -> dict[str, Any]:
        return {
            "key": f"{task}:{lane}:{number}",
            "task": task,
            "lane": lane,
            "destination": lane.partition(":")[2],
            "document_fk": number,
            "event_fk": number,
            "file_fk": file_fk,
            "status": "completed",
            "state": State.DUE,
            "attempts": 0,
            # A workflow step is owed from the beginning, and so stands before the delivery.
            "next_attempt_at": self._now
            + timedelta(milliseconds=0 if task is Task.ADVANCE else number - FIRST),
            "leased_by": "",
            "last_error": "",
            "remote_reference": "",
            "created_at": self._now,
        }

    def insert(self) -> None:
        """Write them all, in one transaction."""
        with self._installation.database.transaction() as connection:
            for table, rows in self._rows.items():
                connection.execute(insert(table), rows)
