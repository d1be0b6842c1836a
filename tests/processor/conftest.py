"""A spool, a database and the parts of the daemon around them, put together by hand."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from processor import documents
from processor.inhand import InHand
from processor.owed import Policy
from processor.pipeline import Pipeline, Tally
from processor.reading import Reader
from processor.settle import Settler
from shared.body import Encoding
from shared.clock import Clock
from shared.db.session import Database
from shared.names import entry_name
from shared.providers import provider_classes
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry, Folder, Spool
from tests.doubles import FakeTime, MemoryDestination


@dataclass
class Workshop:
    """Everything a test of the daemon's parts needs."""

    spool: Spool
    spool_id: str
    database: Database
    time: FakeTime
    destination: MemoryDestination = field(default_factory=MemoryDestination)
    mirror: bool = False
    streak_limit: int = 100
    keep_done: bool = True
    at_end: ExitStack = field(default_factory=ExitStack)
    """What has to be closed after the test."""

    @property
    def clock(self) -> Clock:
        return self.spool.clock

    @property
    def policy(self) -> Policy:
        return Policy({self.destination.name: self.destination}, self.mirror)

    def provider(self, name: str, **settings: Any) -> Any:
        made = provider_classes()[name]
        open_to_anybody = {"authentication": "none"} if made.calls_back else {}
        return made(name, made.Settings(**{**open_to_anybody, **settings}))

    def pipeline(self, **changes: Any) -> Pipeline:
        """A pipeline as a new process would have it."""
        providers = {name: self.provider(name) for name in provider_classes()}
        made = {
            "spool": self.spool,
            "spool_id": self.spool_id,
            "database": self.database,
            "reader": Reader(self.spool, providers),
            "policy": self.policy,
            "in_hand": InHand(self.spool.root / ".in-hand.json"),
            "batch_size": 50,
            "streak_limit": self.streak_limit,
            "keep_done": self.keep_done,
            **changes,
        }
        return Pipeline(**made)

    def work(self, **changes: Any) -> Tally:
        """One pass of a new pipeline."""
        return self.pipeline(**changes).work_through(threading.Event())

    def settler(self) -> Settler:
        return Settler(self.spool, self.spool_id, self.database, keep_done=self.keep_done)

    def put(
        self,
        body: Mapping[str, Any],
        *,
        provider: str = "ssign",
        guid: str | None = None,
        day: str | None = None,
    ) -> Entry:
        """Lay an entry into the spool as the door does."""
        made = provider_classes()[provider]
        payload = json.dumps(body).encode()
        receipt_id = guid or str(uuid.uuid4())
        document_id = str(body.get("envelopeId", body.get("documentId", "")))
        record = SpoolRecord(
            received_at=self.clock.local(),
            document_id=document_id,
            action=str(body["action"]),
            provider_number=made.number,
            payload=payload,
            id_field=made.id_field,
            receipt=Receipt(receipt_id, provider, Encoding.JSON, digest_of(payload), len(payload)),
        )
        entry = Entry(day or self.clock.today().isoformat(), entry_name(document_id, receipt_id))
        return self.lay(entry, record.to_bytes())

    def lay(self, entry: Entry, content: bytes) -> Entry:
        """Lay any file into the spool, old enough not to be taken for a half-made copy."""
        path = self.spool.path(Folder.SPOOL, entry)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return entry

    def show(self, document_id: str, provider: str = "ssign") -> dict[str, Any]:
        with self.database.transaction() as connection:
            found = documents.show(connection, provider, document_id)
        assert found is not None
        return found

    def register(
        self,
        document_id: str,
        refs: Mapping[str, str],
        provider: str = "ssign",
        dms: Mapping[str, str] | None = None,
    ) -> str:
        with self.database.transaction() as connection:
            registration = documents.Registration(provider, document_id, refs, dms or {})
            return documents.register(connection, registration, self.clock.now())

    def folder_of(self, entry: Entry) -> Folder:
        """The one folder that an entry lies in."""
        [(folder, _)] = self.spool.find(entry.name.removesuffix(".json"))
        return folder


@pytest.fixture
def workshop(tmp_path: Path, database: Database) -> Iterator[Workshop]:
    """Spool, database and clock; runs on both databases."""
    time = FakeTime()
    spool = Spool(tmp_path / "root", time.clock())
    made = Workshop(spool, spool.initialise(), database, time)
    with made.at_end:
        yield made
