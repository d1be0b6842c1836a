"""A folder with a settings file, a spool and a database, and the command run on it: for real, or in here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from shared.body import Encoding
from shared.clock import Clock
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry, Folder, Spool
from signspool.cli import run
from tests.nursery import Nursery

PATIENCE_SECONDS = 240.0
"""With a machine that has much else to do: a start alone costs a second of its time."""
SETTINGS = """
[spool]
root = "{root}"
timezone = "America/Sao_Paulo"

[providers.ssign]
secret = "provider-secret-5577"

[providers.certisign]
secret = "provider-secret-5588"
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output; anything beside it is an error."""
        assert self.out, f"exit {self.code}: {self.err}"
        return json.loads(self.out)


def clean_environ() -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("SIGNSPOOL_")}


@dataclass(frozen=True, slots=True)
class Place:
    """One installation in a folder of its own. `here` runs a command in this process, `real` in its own."""

    home: Path
    config: Path
    spool: Spool
    capture: pytest.CaptureFixture[str]
    nursery: Nursery

    def here(self, *arguments: str) -> Said:
        """Run a command in this process."""
        self.capture.readouterr()
        code = run([*arguments, "--config", str(self.config)])
        out, err = self.capture.readouterr()
        return Said(code, out, err)

    def real(self, *arguments: str, stdin: bytes = b"") -> Said:
        """Run a command as people do."""
        done = subprocess.run(
            [sys.executable, "-m", "signspool", *arguments, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.home,
            env=clean_environ(),
            timeout=PATIENCE_SECONDS,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def once(self) -> Said:
        """Let a processor, a process of its own, do what is due."""
        return self.forked("processor", "--once")

    def forked(self, *arguments: str) -> Said:
        """Run a command with `--json` that also logs, in a process of its own; exit codes but 0 read as 1."""
        log = self.home / f"{uuid.uuid4().hex}.log"
        process = self.nursery.start([*arguments, "--json", "--config", str(self.config)], log)
        assert process.wait(PATIENCE_SECONDS)
        # Log lines come first, one JSON value each; the answer has its braces on lines of their own.
        said, brace, answer = f"\n{log.read_text()}".rpartition("\n{\n")
        return Said(0, brace + answer, said) if brace else Said(1, "", answer)

    def callback(
        self,
        document_id: str = "155",
        *,
        action: str = "COMPLETED",
        provider: str = "ssign",
        folder: Folder = Folder.SPOOL,
        day: str = "2026-11-21",
        age_seconds: float = 60.0,
        refusal: dict[str, Any] | None = None,
    ) -> Entry:
        """Lay an entry into a folder, as the door writes it."""
        payload = json.dumps({"envelopeId": document_id, "action": action}).encode()
        guid = str(uuid_utils.uuid7())
        receipt = Receipt(guid, provider, Encoding.JSON, digest_of(payload), len(payload), refusal=refusal)
        record = SpoolRecord(datetime.now(UTC), document_id, action, 1, payload, receipt=receipt)
        return self.file(f"{document_id}_{guid}.json", record.to_bytes(), folder, day, age_seconds)

    def file(
        self,
        name: str,
        data: bytes,
        folder: Folder = Folder.SPOOL,
        day: str = "2026-11-21",
        age_seconds: float = 60.0,
    ) -> Entry:
        """Lay any file into a folder."""
        entry = Entry(day, name)
        path = self.spool.path(folder, entry)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        changed_at = datetime.now(UTC).timestamp() - age_seconds
        os.utime(path, (changed_at, changed_at))
        return entry

    def names(self, folder: Folder) -> list[str]:
        """The names of the entries in a folder."""
        return sorted(entry.name for entry in self.spool.entries(folder))


MakePlace = Callable[..., Place]


@pytest.fixture
def make_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    nursery: Nursery,
    migrated_file: Path,
) -> MakePlace:
    """Makes an installation; `more` is added to its settings file, `bare` leaves spool and tables out."""
    for name in set(os.environ) - set(clean_environ()):
        monkeypatch.delenv(name)

    def make(more: str = "", *, bare: bool = False) -> Place:
        home = tmp_path / uuid.uuid4().hex[:8]
        home.mkdir()
        monkeypatch.chdir(home)
        config = home / "settings.toml"
        config.write_text(SETTINGS.format(root=home / "data") + more)
        place = Place(home, config, Spool(home / "data", Clock(UTC)), capsys, nursery)
        if not bare:
            place.spool.initialise()
            shutil.copyfile(migrated_file, place.spool.root / "signspool.db")
        return place

    return make


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    """An installation with an empty spool and empty tables."""
    return make_place()
