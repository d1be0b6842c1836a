"""A spool and a database as the first version left them, filled, and the program of today on top."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uuid_utils
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, Table, create_engine, text
from sqlalchemy.engine import URL

from processor import documents
from shared.body import Encoding
from shared.clock import Clock
from shared.db import session
from shared.db.models import document_key
from shared.db.session import Database
from shared.events import DocumentStatus
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry, Folder, Spool
from tests.nursery import Nursery
from tests.waiting import PATIENCE_SECONDS

OLDEST = "0001"
LONG_AGO = datetime.now(UTC).replace(microsecond=123456) - timedelta(days=3)
"""Not so long that retention would drop it."""
DAY = f"{LONG_AGO:%Y-%m-%d}"
FILE = b"%PDF-1.7 of long ago"
STRANGE = "ação-\U0001d11e\\ .ü"
REGISTERED = f"{DocumentStatus.PENDING}-ß"
ODD_TEXT = "não \\ \0 \U0001f4dd"
STATES = ("due", "waiting", "held", "failed", "done")
TASKS = {
    "fetch": ("provider:ssign", ""),
    "deliver": ("destination:archive", "archive"),
    "advance": ("destination:dms", "dms"),
    "mirror": ("mirror", ""),
}
"""What the first version could owe, with lane and destination; `dms` and the mirror are in no setting now."""
DEADLINE_SECONDS = 2 * PATIENCE_SECONDS


def escaped(words: str) -> str:
    """A stranger's text as the first version stored it."""
    return "".join(f"\\u{ord(char):04x}" if char in "\\\0" else char for char in words)


@dataclass
class OldInstallation:
    """A spool and a database of version 0001, and the program of today."""

    home: Path
    url: URL
    nursery: Nursery
    documents: dict[str, DocumentStatus] = field(default_factory=dict)

    owed: list[dict[str, Any]] = field(default_factory=list)
    """What stood in the outbox before the upgrade."""

    def __post_init__(self) -> None:
        self.database = Database(self.url, busy_timeout_seconds=PATIENCE_SECONDS)
        self.spool = Spool(self.home / "root", Clock(UTC))
        self.spool.initialise()
        (self.home / "archive").mkdir()
        self.config = self.home / "signspool.toml"
        address = self.url.render_as_string(hide_password=False).replace("+psycopg", "")
        self.config.write_text(
            f'[spool]\nroot = "{self.spool.root}"\ntimezone = "UTC"\nmin_free = "1KiB"\n'
            f'[database]\nurl = "{address}"\n[providers.ssign]\nsecret = "an-invented-one"\n'
            f'[destinations.archive]\nkind = "folder"\npath = "{self.home}/archive"\n'
            '[processor]\nsweep = "500ms"\nlook_outbox = "50ms"\n'
        )

    def run(self, *arguments: str) -> str:
        """Run a command to its end in a process of its own; returns what it printed."""
        printed = self.home / f"{uuid.uuid4().hex}.txt"
        process = self.nursery.start([*arguments, "--config", str(self.config)], printed)
        assert process.wait(DEADLINE_SECONDS), f"{arguments} does not end"
        return printed.read_text()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def real(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same, for its exit code."""
        words = [sys.executable, "-m", "signspool", *arguments, "--config", str(self.config)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SIGNSPOOL_")}
        return subprocess.run(
            words, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False, env=environ
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of a table as it lies there, without today's models."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                found = Table(table, MetaData(), autoload_with=connection)
                return [
                    dict(row) for row in connection.execute(found.select().order_by(found.c.id)).mappings()
                ]
        finally:
            engine.dispose()

    def status(self, document_id: str) -> str:
        """What today's program says of a document."""
        with self.database.reading() as connection:
            found = documents.show(connection, "ssign", document_id)
        return found["status"] if found else ""

    def spool_has(self, folder: Folder, names: set[str]) -> bool:
        return names <= {entry.name for entry in self.spool.entries(folder)}

    def callback(self, document_id: str, action: str) -> None:
        """Lay one into the spool, as the door writes it."""
        payload = json.dumps({"envelopeId": document_id, "action": action}).encode()
        guid = str(uuid_utils.uuid7())
        receipt = Receipt(guid, "ssign", Encoding.JSON, digest_of(payload), len(payload))
        record = SpoolRecord(datetime.now(UTC), document_id, action, 1, payload, receipt=receipt)
        path = self.spool.folder(Folder.SPOOL) / "2026-11-21" / f"new_{guid}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(record.to_bytes())

    def version(self) -> str:
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                return str(connection.scalar(text("SELECT version_num FROM alembic_version")))
        finally:
            engine.dispose()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            logs = "".join(path.read_text()[-3000:] for path in self.home.glob("*.log"))
            assert time.monotonic() < end, f"waited in vain for {what}\n{logs}"
            time.sleep(0.05)


def make_oldest(url: URL) -> None:
    """The tables of version 0001, made by the migration that made them then."""
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(session._MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDEST)
    engine.dispose()


def fill(old: OldInstallation) -> None:
    """A document in each status, and for each thing that can be owed one in each state.

    Rows are written without the models, which are of today.
    """
    old.documents = {f"{status}-ß": status for status in DocumentStatus} | {
        STRANGE: DocumentStatus.COMPLETED,
        "x" * 500: DocumentStatus.COMPLETED,
    }
    (old.spool.files / DAY).mkdir()
    engine = create_engine(old.url)
    with engine.begin() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for number, (document_id, status) in enumerate(old.documents.items(), 1):
            _fill_one(old, connection, tables, number, document_id, status)
        if old.url.get_backend_name() == "postgresql":
            for name in ("documents", "events", "files", "outbox"):
                last = f"(SELECT max(id) FROM {name})"
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {last})"))
    engine.dispose()


def _fill_one(
    old: OldInstallation,
    connection: Any,
    tables: MetaData,
    number: int,
    document_id: str,
    status: DocumentStatus,
) -> None:
    is_new = status is DocumentStatus.PENDING
    connection.execute(
        tables.tables["documents"].insert(),
        {
            "id": number,
            "provider": "ssign",
            "key": document_key(document_id),
            "document_id": escaped(document_id),
            "status": status,
            "refs_version": number - 1,
            "status_at": None if is_new else LONG_AGO,
            "created_at": LONG_AGO,
            "registered_at": LONG_AGO if is_new else None,
            "learned": {},
            "refs": {"envelope": ODD_TEXT} if is_new else {},
            "dms": {"id": "7", "note": "ção"} if is_new else {},
        },
    )
    if is_new:
        return
    # Its entry waits in deferred/ for what is still owed.
    entry = Entry(DAY, f"{number}_{uuid.uuid4()}.json")
    path = old.spool.path(Folder.DEFERRED, entry)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    (old.spool.files / DAY / f"{number}.pdf").write_bytes(FILE)
    connection.execute(
        tables.tables["events"].insert(),
        [
            {
                "id": 2 * number + ordinal,
                "document_fk": number,
                "receipt_id": f"receipt-{number}",
                "ordinal": ordinal,
                "semantic_key": None if ordinal else "said",
                "action": escaped(ODD_TEXT),
                "event_type": "completed",
                "outcome": "repeated" if ordinal else "applied",
                "status_before": "pending",
                "status_after": status,
                "message": escaped(ODD_TEXT),
                "received_at": LONG_AGO,
                "occurred_at": None if ordinal else LONG_AGO,
                "recorded_at": LONG_AGO,
                "origin": "callback",
                "trust": "proven",
                "payload_sha256": "0" * 64,
                "spool_id": old.spool.id(),
                "day": entry.day,
                "name": entry.name,
                "settled_at": None,
            }
            for ordinal in (0, 1)
        ],
    )
    connection.execute(
        tables.tables["files"].insert(),
        {
            "id": number,
            "document_fk": number,
            "kind": "signed",
            "source": "",
            "size_bytes": len(FILE),
            "name": f"{number} ção.pdf",
            "media_type": "application/pdf",
            "sha256": digest_of(FILE),
            "path": f"{DAY}/{number}.pdf",
            "spool_id": old.spool.id(),
            "fetched_at": LONG_AGO,
        },
    )
    if status is DocumentStatus.COMPLETED:
        return
    # Each other document stands in one of the states with all that it owes.
    state = STATES[number % len(STATES)]
    connection.execute(
        tables.tables["outbox"].insert(),
        [
            {
                "id": 10 * number + place,
                "key": f"{task}:{number}",
                "task": task,
                "lane": lane,
                "destination": destination,
                "document_fk": number,
                "event_fk": 2 * number,
                "file_fk": number if task == "deliver" else None,
                "status": status,
                "state": state,
                "attempts": 0 if state == "due" else 3,
                "next_attempt_at": LONG_AGO,
                "lease_until": None,
                "leased_by": "",
                "sent_at": LONG_AGO if state == "held" else None,
                "last_error": "" if state == "due" else escaped(ODD_TEXT),
                "remote_reference": "",
                "created_at": LONG_AGO,
                "done_at": LONG_AGO if state == "done" else None,
            }
            for place, (task, (lane, destination)) in enumerate(TASKS.items())
        ],
    )
